package readindex

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Dial connects to a node by its id, and verifies that it is that node.
type Dial func(ctx context.Context, id string) (net.Conn, error)

// errMixed says that an answer belongs to another question.
var errMixed = errors.New("the answer is to another question")

// connection asks one other node, over a connection that it keeps. It is used by one goroutine at a time.
type connection struct {
	dial Dial
	node string
	conn net.Conn
}

// ask asks and waits for the answer, until a deadline. A connection that has missed one is closed: what still comes
// over it would be taken for the answer to another question.
func (c *connection) ask(ctx context.Context, q question, deadline time.Time) (answer, error) {
	if c.conn == nil {
		dialing, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		conn, err := c.dial(dialing, c.node)
		if err != nil {
			return answer{}, err
		}
		c.conn = conn
	}
	conn := c.conn
	_ = conn.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })() // whoever stops does not wait
	var a answer
	_, err := conn.Write(q.bytes())
	if err == nil {
		a, err = readAnswer(conn)
	}
	if err == nil && a.round != q.round {
		err = errMixed
	}
	if err != nil {
		c.close()
		return answer{}, err
	}
	return a, nil
}

func (c *connection) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// redialAfter is how long a voter that could not be asked is left alone.
const redialAfter = 100 * time.Millisecond

// line asks one voter what rounds ask it: at any time the newest, since a round only begins when the one before is
// over. So a slow voter never holds up a round that has its majority without it.
type line struct {
	connection
	wake chan struct{} // holds one

	mu     sync.Mutex // guards below
	newest *posed
}

// posed is a round's question on its way to a voter, until when it matters, and where the answer goes.
type posed struct {
	question
	deadline time.Time
	answers  chan<- heard // has room for one answer of each voter
}

type heard struct {
	from string
	answer
}

func newLine(dial Dial, node string) *line {
	return &line{connection: connection{dial: dial, node: node}, wake: make(chan struct{}, 1)}
}

func (l *line) pose(p posed) {
	l.mu.Lock()
	if l.newest == nil || l.newest.round < p.round {
		l.newest = &p
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *line) take() *posed {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.newest
	l.newest = nil
	return p
}

// run asks until ctx ends. A question that failed is asked again while its round may wait for it: the node may have
// been restarted since it was last asked.
func (l *line) run(ctx context.Context) {
	defer l.close()
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		p := l.take()
		if p == nil || time.Until(p.deadline) <= 0 {
			continue
		}
		a, err := l.ask(ctx, p.question, p.deadline)
		if err == nil {
			p.answers <- heard{l.node, a}
			continue
		}
		select {
		case <-time.After(redialAfter):
			l.pose(*p)
		case <-ctx.Done():
			return
		}
	}
}
