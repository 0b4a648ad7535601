package cluster

// PutIntoLog puts an entry into the log as it is, as a leader of another version, or one with a mistake, would.
func (n *Cluster) PutIntoLog(entry []byte) error {
	return n.raft.Load().Apply(entry, proposeTimeout).Error()
}
