package secret

import "sort"

// Removable picks, of a secret's versions without labels, those to remove at time now: the oldest
// beyond 100, but none younger than 24 hours (API reference, PutSecretValue). It sorts its argument.
func Removable(unlabelled []Version, now int64) []Version {
	if len(unlabelled) <= MaxUnlabelled {
		return nil
	}
	sort.Slice(unlabelled, func(i, j int) bool {
		a, b := unlabelled[i], unlabelled[j]
		return a.Created < b.Created || a.Created == b.Created && a.ID < b.ID
	})
	old := unlabelled[:len(unlabelled)-MaxUnlabelled]
	n := sort.Search(len(old), func(i int) bool { return old[i].Created > now-KeepVersionsFor })
	return old[:n]
}
