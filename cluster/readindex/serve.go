package readindex

import (
	"context"
	"net"
	"time"

	"coffer/cluster/quorum"
)

// Serve answers the questions of another node, which its certificate names, until the connection or ctx ends.
func (b *Barrier) Serve(ctx context.Context, conn net.Conn, asker string) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for {
		q, err := readQuestion(conn)
		if err != nil || q.cluster != b.Cluster() {
			return // the asker has gone, or is of another cluster
		}
		a := answer{round: q.round}
		switch q.kind {
		case askTerm:
			a.granted = true
		case askIndex:
			if index, err := b.indexFor(ctx, quorum.Question{From: asker, Term: q.term}); err == nil {
				a.granted, a.index = true, index
			}
		default:
			return
		}
		a.term = b.Node.Term() // read after the question's arrival: the round rests on it
		_ = conn.SetWriteDeadline(time.Now().Add(b.Timeout))
		if _, err := conn.Write(a.bytes()); err != nil {
			return
		}
	}
}

// indexFor is how far another node must have applied, by this leader's word.
func (b *Barrier) indexFor(ctx context.Context, q quorum.Question) (uint64, error) {
	if index, ok := b.atOnce(q); ok {
		return index, nil
	}
	if b.Node.Leads() == 0 {
		return 0, errNotLeader
	}
	ctx, cancel := context.WithTimeout(ctx, b.Timeout)
	defer cancel()
	w, err := b.join(ctx, q)
	if err != nil {
		return 0, err
	}
	return w.index, nil
}
