package replication

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"

	"coffer/fsm"
	"coffer/secret"
)

// compareInterval is how often a region's links are compared with the replicas at their other ends. It finds what the
// stream of changes missed, which should be nothing.
const (
	compareInterval = 20 * time.Second
	suspectInterval = 5 * time.Second // while something differed
)

// ranges is into how many parts links are divided by the hash of their ids.
const ranges = 256

// differing bounds the ranges that are looked at in one comparison.
const differing = 32

func rangeOf(link string) byte { return byte(xxhash.Sum64String(link)) }

func (l *linked) sum() uint64 {
	b := binary.BigEndian.AppendUint64([]byte(l.Link), l.Revision)
	b = binary.BigEndian.AppendUint64(b, l.Digest)
	return xxhash.Sum64(binary.BigEndian.AppendUint64(b, uint64(l.AccessedDay)))
}

// compared answers another region's comparison with the replicas of its secrets here.
func (a *Agent) compared(_ context.Context, source string, in *comparison) (*compared, error) {
	out := &compared{}
	if in.Ranges == nil {
		out.Sums = make([]uint64, ranges)
	}
	err := a.base.Store.View(func(tx *fsm.Tx) error {
		tx.Replicas(source, func(s *secret.Secret, r *secret.Replica) bool {
			l := linked{Link: r.Link, Revision: r.Revision, Digest: s.StateDigest(), AccessedDay: s.AccessedDay}
			switch at := rangeOf(r.Link); {
			case in.Ranges == nil:
				out.Sums[at] += l.sum()
			case bytes.IndexByte(in.Ranges, at) >= 0:
				out.Links = append(out.Links, l)
			}
			return true
		})
		return nil
	})
	return out, err
}

// own is a link of this region as a comparison sees it.
type own struct {
	linked
	ref     fsm.Ref
	lagging bool // it differs as long as it is on its way
}

// beginComparison reports whether it is time to compare the regions, and nobody does.
func (c *courier) beginComparison() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.comparing || time.Now().Before(c.compareAt) {
		return false
	}
	c.comparing = true
	return true
}

func (c *courier) endComparison() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.comparing, c.compareAt = false, time.Now().Add(compareInterval)
	if len(c.suspects) > 0 {
		c.compareAt = time.Now().Add(suspectInterval)
	}
}

// compare compares the links to the region with the replicas there, and repairs those that differ for the second time,
// and have not changed in between.
func (c *courier) compare(ctx context.Context) {
	var theirs compared
	if err := c.a.cluster.CallRegion(ctx, c.region, comparePath, callTimeout, &comparison{}, &theirs); err != nil ||
		len(theirs.Sums) != ranges {
		c.log.Debug("the region could not be compared", "error", err)
		return
	}
	sums := make([]uint64, ranges)
	ours, err := c.owned(nil)
	if err != nil {
		return // damage is reported by the store
	}
	for _, l := range ours {
		sums[rangeOf(l.Link)] += l.sum()
	}
	var look []byte
	for i, sum := range sums {
		if sum != theirs.Sums[i] && len(look) < differing {
			look = append(look, byte(i))
		}
	}
	if look == nil {
		clear(c.suspects)
		c.a.metrics.compared(c.region, 0)
		return
	}
	if err := c.a.cluster.CallRegion(ctx, c.region, comparePath, callTimeout, &comparison{Ranges: look},
		&theirs); err != nil {
		return
	}
	c.resolve(ctx, look, theirs.Links)
}

// owned are the links to the region, in ranges, or all of them.
func (c *courier) owned(in []byte) (map[string]*own, error) {
	found := map[string]*own{}
	err := c.a.base.Store.View(func(tx *fsm.Tx) error {
		tx.Links(c.region, func(_ string, s *secret.Secret, l *secret.Link) bool {
			if in == nil || bytes.IndexByte(in, rangeOf(l.ID)) >= 0 {
				found[l.ID] = &own{
					linked:  linked{l.ID, l.Acked, s.StateDigest(), l.AccessedDay},
					ref:     fsm.Ref{Account: s.Account, Name: s.Name, Suffix: s.Suffix},
					lagging: tx.Lag(c.region, s) != nil,
				}
			}
			return true
		})
		return nil
	})
	return found, err
}

func (c *courier) resolve(ctx context.Context, look []byte, theirs []linked) {
	ours, err := c.owned(look)
	if err != nil {
		return
	}
	suspects := map[string]uint64{}
	orphans := 0
	command := &fsm.Repair{Region: c.region, At: c.a.base.Millis()}
	suspect := func(l *own) {
		if revision, again := c.suspects[l.Link]; again && revision == l.Revision {
			command.Links = append(command.Links, fsm.LinkRef{Ref: l.ref, Link: l.Link})
		} else {
			suspects[l.Link] = l.Revision
		}
	}
	for _, t := range theirs {
		l := ours[t.Link]
		delete(ours, t.Link)
		switch {
		case l == nil:
			suspects[t.Link] = t.Revision
			if revision, again := c.suspects[t.Link]; again && revision == t.Revision {
				orphans++
			}
		case l.lagging:
		case l.Revision != t.Revision || l.Digest != t.Digest:
			suspect(l)
		case t.AccessedDay > l.AccessedDay:
			command.Accessed = append(command.Accessed, fsm.LinkAccess{
				LinkRef: fsm.LinkRef{Ref: l.ref, Link: l.Link}, Day: t.AccessedDay,
			})
		}
	}
	for _, l := range ours {
		if !l.lagging {
			suspect(l)
		}
	}
	c.suspects = suspects
	if orphans > 0 {
		c.log.Warn("the region has replicas of links that do not exist here: promote them there, or replicate their "+
			"secrets again", "count", orphans)
	}
	c.a.metrics.compared(c.region, orphans)
	if len(command.Links)+len(command.Accessed) == 0 {
		return
	}
	out, err := c.a.base.Propose(ctx, command)
	if err != nil {
		return // found again
	}
	if out.Count > 0 {
		c.log.Error("replicas differed from their primaries, and are sent again", "count", out.Count)
		c.a.metrics.repaired(c.region, out.Count)
	}
}

// authentic reports whether a welcome carries the proof that was asked for.
func authentic(w *welcome, secret []byte) bool {
	return subtle.ConstantTimeCompare(w.Proof, proof(secret, w)) == 1
}
