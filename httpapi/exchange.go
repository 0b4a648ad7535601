package httpapi

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"

	"github.com/google/uuid"

	"coffer/serving"
)

// maxBody is larger than any valid request: 64 KiB of text, each byte escaped as six.
const maxBody = 512 << 10

// Buffers that requests are read into and answers are encoded into. They hold secrets, so they are cleared before
// another request gets them. Those for bodies are small: a body that has not arrived holds no more than that.
var (
	bodies  = bufferPool{keep: 8 << 10}
	answers = bufferPool{keep: 64 << 10}
)

const firstBuffer = 4096

type bufferPool struct {
	pool sync.Pool
	keep int // capacity of the largest buffer that is kept, in bytes
}

func (p *bufferPool) get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, firstBuffer)
}

func (p *bufferPool) put(b []byte) {
	if cap(b) == 0 || cap(b) > p.keep {
		return
	}
	clear(b[:cap(b)])
	b = b[:0]
	p.pool.Put(&b)
}

// exchange is one request and its answer: the memory that they hold, and what the access log and the metrics tell.
type exchange struct {
	id        uuid.UUID
	operation string
	principal string // ARN of who signed
	code      string
	status    int
	refused   string // what the node has enough of, for coffer_refused_total

	bytes *quota
	of    netip.Prefix
	held  int64  // of bytes
	body  []byte // of bodies
	out   []byte // of answers
}

// hold takes n bytes more of the client's share.
func (x *exchange) hold(n int) error {
	if !x.bytes.take(x.of, int64(n)) {
		x.refused = tooManyBytes
		return serving.ErrThrottled
	}
	x.held += int64(n)
	return nil
}

func (x *exchange) drop(n int) {
	x.bytes.give(x.of, int64(n))
	x.held -= int64(n)
}

// answered notes the buffer of the answer, which may be the one that the exchange had for it or another.
func (x *exchange) answered(out []byte) {
	x.out = out
	x.held += int64(cap(out))
	x.bytes.force(x.of, int64(cap(out)))
}

// end gives back what the exchange holds.
func (x *exchange) end() {
	bodies.put(x.body)
	answers.put(x.out)
	x.bytes.give(x.of, x.held)
	x.body, x.out, x.held = nil, nil, 0
}

// read reads the body of r. What it holds grows with what has arrived, whatever length the client has announced.
func (x *exchange) read(r *http.Request) error {
	if r.ContentLength > maxBody {
		return serving.ErrTooLarge
	}
	x.body = bodies.get()
	if err := x.hold(cap(x.body)); err != nil {
		return err
	}
	body := http.MaxBytesReader(nil, r.Body, maxBody)
	for {
		if len(x.body) == cap(x.body) {
			if err := x.grow(r.ContentLength); err != nil {
				return err
			}
		}
		n, err := body.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return serving.ErrTooLarge
		} else if err != nil {
			return serving.ErrSerialization("The request body could not be read whole.")
		}
	}
}

// grow doubles the body's buffer, or makes it as large as the body will be (length, -1 if unknown) if that is less.
func (x *exchange) grow(length int64) error {
	size := 2 * cap(x.body)
	if length >= int64(len(x.body)) {
		size = min(size, int(length)+1) // the last read finds the end
	}
	if err := x.hold(size); err != nil {
		return err
	}
	grown := make([]byte, len(x.body), size)
	copy(grown, x.body)
	small := x.body
	x.body = grown
	clear(small)
	x.drop(cap(small))
	return nil
}
