package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"coffer/iam"
	"coffer/mistake"
	"coffer/serving"
)

// Headers of ours.
const (
	consistencyHeader = "X-Coffer-Consistency"
	staleHeader       = "X-Coffer-Stale"
	requestIDHeader   = "X-Amzn-Requestid"
)

const contentType = "application/x-amz-json-1.1"

// handle is POST /: one operation.
func (s *Server) handle(c echo.Context) error {
	start := time.Now()
	r, w := c.Request(), c.Response()
	x := &exchange{id: uuid.New(), operation: "unknown", bytes: s.bytes, of: addressOf(r.RemoteAddr)}
	defer x.end()
	w.Header()[requestIDHeader] = []string{x.id.String()}
	w.Header()["Content-Type"] = []string{contentType}
	err := mistake.Catch(s.log, "a request failed by a mistake in the code", func() error {
		return s.answer(r, w.Header(), x)
	}, "request_id", x.id.String())
	x.status = http.StatusOK
	if err != nil {
		api := serving.ToAPIError(err).Of(target(r))
		x.code, x.status = api.Code, api.Status
		switch {
		case x.refused != "": // told by metrics: a line for each would make it worse
			s.metrics.refused.WithLabelValues(x.refused).Inc()
		case api.Status >= http.StatusInternalServerError && !errors.Is(err, mistake.Err): // which is logged already
			s.log.Error("a request failed", "request_id", x.id.String(), "operation", x.operation, "error", err)
		}
		x.answered(appendError(nil, api))
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(x.out))}
	w.WriteHeader(x.status)
	_, _ = w.Write(x.out) // a client that has gone sees no answer
	s.note(r, x, time.Since(start))
	return nil
}

// answer fills x.out with what the operation answers, or says why not.
func (s *Server) answer(r *http.Request, header http.Header, x *exchange) error {
	operation, ok := s.operations[target(r)]
	if !ok {
		return serving.ErrUnknownOperation
	}
	_, x.operation, _ = strings.Cut(operation.target, ".")
	principal, err := s.authenticate(r, operation.verifier, x)
	if err != nil {
		return err
	}
	x.principal = principal.ARN
	header.Del("Connection") // whoever can sign may send another request
	call := &serving.Call{Principal: principal, RequestID: x.id[:]}
	switch want := r.Header.Get(consistencyHeader); strings.ToLower(want) {
	case "":
	case "strong":
		call.Consistency = serving.Strong
	case "local":
		call.Consistency = serving.Local
	default:
		return serving.ErrSerialization("The header X-Coffer-Consistency must be strong or local.")
	}
	gate := s.reads
	if operation.writes {
		gate = s.writes
	}
	if err := gate.enter(r.Context()); err != nil {
		x.refused = tooManyRequests
		return err
	}
	defer gate.leave()
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.Work)
	defer cancel()
	out, err := operation.do(serving.WithCall(ctx, call), x.body, answers.get())
	if call.Stale {
		header[staleHeader] = []string{strconv.FormatInt(call.StaleFor.Milliseconds(), 10)}
	}
	if err == nil {
		x.answered(out)
	}
	return err
}

// authenticate says who sent r, and reads its body. Nothing is read before the rest of the signature is in order, or
// anyone who can open a connection could fill the memory with bodies.
func (s *Server) authenticate(r *http.Request, v *iam.Verifier, x *exchange) (iam.Principal, error) {
	claim, err := v.Examine(&iam.Request{
		Method: r.Method, Host: r.Host, RawQuery: r.URL.RawQuery, Header: r.Header, ContentLength: r.ContentLength,
	}, s.now())
	if err != nil {
		return iam.Principal{}, err
	}
	if err := x.read(r); err != nil {
		return iam.Principal{}, err
	}
	return claim.Prove(x.body)
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

// errorBody is an error as the JSON protocol has it. Services differ in how they spell the message: both are sent.
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
