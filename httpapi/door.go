package httpapi

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"coffer/iam"
	"coffer/serving"
)

// maxBody is larger than any valid request: 64 KiB of text, each byte escaped as six.
const maxBody = 512 << 10

// Headers of ours.
const (
	consistencyHeader = "X-Coffer-Consistency"
	staleHeader       = "X-Coffer-Stale"
	requestIDHeader   = "X-Amzn-Requestid"
)

const contentType = "application/x-amz-json-1.1"

// buffers holds what requests and answers are read into and encoded into. They hold secrets, so they are
// cleared before another request gets them.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

const keepBuffer = 64 << 10

func putBuffer(b *[]byte) {
	if cap(*b) > keepBuffer {
		return
	}
	clear((*b)[:cap(*b)])
	*b = (*b)[:0]
	buffers.Put(b)
}

// handle is POST /: one operation.
func (s *Server) handle(c echo.Context) error {
	start := time.Now()
	r, w := c.Request(), c.Response()
	id := uuid.New()
	record := &record{id: id.String(), operation: "unknown"}
	w.Header()[requestIDHeader] = []string{record.id}
	w.Header()["Content-Type"] = []string{contentType}

	out := buffers.Get().(*[]byte)
	defer putBuffer(out)
	answer, err := s.answer(r, w.Header(), id[:], record, (*out)[:0])
	if err != nil {
		api := serving.ToAPIError(err).Of(target(r))
		record.code, record.status = api.Code, api.Status
		if api.Status >= http.StatusInternalServerError {
			s.log.Error("a request failed", "request_id", record.id, "operation", record.operation, "error", err)
		}
		answer = appendError((*out)[:0], api)
	} else {
		record.status = http.StatusOK
		*out = answer
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(answer))}
	w.WriteHeader(record.status)
	_, _ = w.Write(answer) // a client that has gone sees no answer
	s.note(r, record, time.Since(start))
	return nil
}

// record is what the access log and the metrics tell of a request.
type record struct {
	id        string
	operation string
	accessKey string
	code      string
	status    int
}

func (s *Server) answer(r *http.Request, header http.Header, id []byte, rec *record, into []byte) ([]byte, error) {
	operation, ok := s.operations[target(r)]
	if !ok {
		return nil, serving.ErrUnknownOperation
	}
	_, rec.operation, _ = strings.Cut(operation.target, ".")
	if len(r.Header["Authorization"]) == 0 && r.URL.RawQuery == "" {
		return nil, &iam.Error{Kind: iam.KindMissingToken, Message: "Missing Authentication Token"}
	}
	buf := buffers.Get().(*[]byte)
	defer putBuffer(buf)
	body, err := readBody(r, (*buf)[:0])
	if err != nil {
		return nil, err
	}
	*buf = body
	principal, err := operation.verifier.Verify(&iam.Request{
		Method: r.Method, Host: r.Host, RawQuery: r.URL.RawQuery, Header: r.Header,
		ContentLength: r.ContentLength, Body: body,
	}, s.now())
	if err != nil {
		return nil, err
	}
	rec.accessKey = principal.ARN
	call := &serving.Call{Principal: principal, RequestID: id}
	switch want := r.Header.Get(consistencyHeader); strings.ToLower(want) {
	case "":
	case "strong":
		call.Consistency = serving.Strong
	case "local":
		call.Consistency = serving.Local
	default:
		return nil, serving.ErrSerialization("The header X-Coffer-Consistency must be strong or local.")
	}
	answer, err := operation.do(serving.WithCall(r.Context(), call), body, into)
	if call.Stale {
		header[staleHeader] = []string{strconv.FormatInt(call.StaleFor.Milliseconds(), 10)}
	}
	return answer, err
}

// target is the operation that a request names: in its header, or in its query, where presigning moves it.
func target(r *http.Request) string {
	switch named := r.Header["X-Amz-Target"]; {
	case len(named) == 1:
		return named[0]
	case len(named) == 0 && r.URL.RawQuery != "":
		return r.URL.Query().Get("X-Amz-Target")
	}
	return ""
}

func readBody(r *http.Request, buf []byte) ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, serving.ErrTooLarge
	}
	body := http.MaxBytesReader(nil, r.Body, maxBody)
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), 2*cap(buf)+512)
			copy(grown, buf)
			clear(buf)
			buf = grown
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, serving.ErrTooLarge
		} else if err != nil {
			return nil, serving.ErrSerialization("The request body could not be read whole.")
		}
	}
}

// errorBody is an error as the JSON protocol has it. Both spellings of the message are sent, since services differ.
type errorBody struct {
	Type    string `json:"__type"`
	Message string `json:"Message"`
	Lower   string `json:"message"`
}

func appendError(into []byte, e *serving.APIError) []byte {
	w := sliceWriter(into)
	if err := json.MarshalWrite(&w, errorBody{e.Code, e.Message, e.Message}); err != nil {
		return append(into, `{"__type":"InternalServiceError"}`...)
	}
	return w
}
