package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"coffer/cluster/pki"
	"coffer/cluster/raftlog"
	"coffer/cluster/readindex"
	"coffer/fsm"
	"coffer/rows"
)

// Survivor is a stopped node that may be made a region again, after the majority of its region was lost for good.
type Survivor struct {
	SurvivorConfig
	logs    *raftlog.Log
	durable rows.Position // of the state
	members []raft.Server
	last    raft.Log // of which only index, term and time count
}

// SurvivorConfig says which node it is.
type SurvivorConfig struct {
	Dir         string     // data directory of a node that does not run
	Store       *fsm.Store // its state
	Credentials *pki.Credentials
	Log         *slog.Logger
}

// Remains is what a survivor has of its region.
type Remains struct {
	Node        string
	Cluster     string    // id of the cluster that it was of, or is made of
	Term, Index uint64    // of the last entry of its log: of several survivors the one with the highest has most
	Written     time.Time // when a leader made that entry, by that leader's clock; zero if it is in the state only
	Committed   uint64    // entries up to it are known to have been acknowledged by a majority
	Confirmed   time.Time // when a majority last confirmed its state, by this machine's clock; 1970 if that is unknown
	Interrupted bool      // a recovery of it began and did not end
	Restoring   bool      // it may hold an archive whose restore a majority had not taken yet
	Members     []Member
}

// OpenSurvivor opens what a node left behind. It fails if the node runs, or if what it left is damaged. When it
// fails, the state is closed.
func OpenSurvivor(c SurvivorConfig) (_ *Survivor, err error) {
	s := &Survivor{SurvivorConfig: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// A state that was sent before the node stopped is taken as by a start: it may be of a restore that nobody committed.
	restore := func(from io.ReadCloser) error {
		if err := markReplaced(c.Dir, from); err != nil {
			return err
		}
		return c.Store.Restore(from)
	}
	snapshots, err := openSnapshots(c.Dir, c.Store, restore, c.Log)
	if err != nil {
		return nil, err
	}
	told := func(error) {} // what is found is the answer of the call that finds it
	s.logs, err = raftlog.Open(c.Dir, raftlog.Options{Log: c.Log, Used: true, OnDamage: told, OnFatal: told, OnHung: told})
	if err != nil {
		return nil, err
	}
	snapshots.logs, s.durable = s.logs, c.Store.Durable()
	return s, s.read(snapshots)
}

// Close gives the data directory free: it closes the log and the state.
func (s *Survivor) Close() error {
	var err error
	if s.logs != nil {
		err = s.logs.Close()
	}
	return errors.Join(err, s.Store.Close())
}

// read reads the end of the log, and the newest configuration in it.
func (s *Survivor) read(snapshots *snapshots) error {
	if err := snapshots.verify(); err != nil && !errors.Is(err, raftlog.ErrInterrupted) {
		return err
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	state := metaOf(s.durable)
	s.members, s.last = state.Configuration.Servers, raft.Log{Index: state.Index, Term: state.Term}
	for index := state.Index + 1; index <= last; index++ {
		if err := s.logs.GetLog(index, &s.last); err != nil {
			return err
		}
		if s.last.Type == raft.LogConfiguration {
			s.members = raft.DecodeConfiguration(s.last.Data).Servers
		}
	}
	if last == state.Index && last > 0 { // for its time
		if err := s.logs.GetLog(last, &s.last); err != nil {
			return err
		}
	}
	self := func(m raft.Server) bool { return string(m.ID) == s.Credentials.Identity.ID }
	if !slices.ContainsFunc(s.members, self) {
		return fmt.Errorf("this data directory is of no member of its cluster that has the certificate's name %s: the log"+
			" knows %s", s.Credentials.Identity.ID, names(s.members))
	}
	return nil
}

func names(servers []raft.Server) (ids []string) {
	for _, m := range servers {
		ids = append(ids, string(m.ID))
	}
	return ids
}

// Remains returns what the survivor has.
func (s *Survivor) Remains() Remains {
	r := Remains{
		Node: s.Credentials.Identity.ID, Cluster: s.logs.ClusterID(), Committed: s.durable.Through,
		Term: s.last.Term, Index: s.last.Index, Written: s.last.AppendedAt, Interrupted: s.logs.Recovered() > s.last.Index,
	}
	if kept, err := readindex.OpenKept(s.Dir); err == nil { // or else it is unknown
		r.Confirmed = time.Now().Add(-kept.Age(readindex.Confirmation{}))
		_ = kept.Close()
	} else {
		r.Confirmed = time.Unix(0, 0)
	}
	_, r.Restoring, _ = readRestoreMark(s.Dir) // one that can't be read ends Recover
	for _, m := range s.members {
		r.Members = append(r.Members, Member{ID: string(m.ID), Voter: isVoter(m)})
	}
	return r
}

// Recover makes the survivor the only voter of a new cluster of its region, and returns that cluster's id. The node
// takes writes when it is started, after a new epoch has begun (Cluster.finishRecovery), and others join it with
// empty disks. When it fails half way, the node does not start, and Recover can be called again.
//
// It appends to the log instead of rewriting it from a snapshot, as [raft.RecoverCluster] does: the state stays as it
// is, and nothing that the node has can be lost on the way.
func (s *Survivor) Recover() (cluster string, err error) {
	id := raft.ServerID(s.Credentials.Identity.ID)
	self := raft.Configuration{Servers: []raft.Server{{ID: id, Address: raft.ServerAddress(id)}}}
	if err := s.keepRestored(); err != nil {
		return "", err
	}
	cluster = uuid.NewString()
	_, _, err = s.logs.Recover(cluster, raft.EncodeConfiguration(self), s.durable.Through, s.durable.ThroughTerm)
	return cluster, err
}

// keepRestored keeps the node from discarding a state whose restore was under way: it is what the region will have.
func (s *Survivor) keepRestored() error {
	if _, there, err := readRestoreMark(s.Dir); err != nil || !there {
		return err
	}
	return writeRestoreMark(s.Dir, restoreMark{})
}

// Answering asks the former members, where they were last found, whether they run and are part of a cluster. It
// returns those that do: a majority may be among them, or come together again. One that was emptied and waits to join
// counts for nothing.
func (s *Survivor) Answering(ctx context.Context) (ids []string) {
	book := openBook(s.Dir)
	answers := make(chan string, len(s.members))
	for _, m := range s.members {
		go func() {
			id := string(m.ID)
			if known, ok := book.of(id); !ok || id == s.Credentials.Identity.ID || !s.runs(ctx, id, known.Peer) {
				id = ""
			}
			answers <- id
		}()
	}
	for range s.members {
		if id := <-answers; id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// runs reports whether the node answers at an address as a part of a cluster.
func (s *Survivor) runs(ctx context.Context, id, addr string) bool {
	var said membership
	err := callAt(ctx, s.Credentials, newOpenConns(math.MaxInt, math.MaxInt), s.logs.ClusterID(), id, addr, "/membership",
		nil, &said)
	var refused *CallError
	return err == nil && said.Cluster != "" || errors.As(err, &refused)
}
