package mistake_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"coffer/mistake"
)

const secret = "correct horse battery staple"

func logger() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewJSONHandler(&b, nil)), &b
}

type holder struct{ value string }

// fail panics in ways that each hold the secret somewhere: in the value, in an argument, as an index.
func fail(how int, value string) {
	switch how {
	case 0:
		panic(value)
	case 1:
		panic(fmt.Errorf("wanted something else than %q", value))
	case 2:
		panic(holder{value})
	case 3:
		_ = []int{}[value[0]]
	case 4:
		var none *holder
		none.value = value
	case 5:
		panic(any(&value))
	}
}

// TestLogTellsWhereAndNotWhat has panics whose values hold a secret: the log names the function, and has nothing of it.
func TestLogTellsWhereAndNotWhat(t *testing.T) {
	for how, kind := range []string{
		"string", "errorString", "mistake_test.holder", "index out of range [##", "nil pointer dereference", "*string",
	} {
		log, out := logger()
		err := mistake.Catch(log, "it failed", func() error {
			fail(how, secret)
			return nil
		}, "request_id", "17")
		if !errors.Is(err, mistake.Err) {
			t.Errorf("%d: %v", how, err)
		}
		text := out.String()
		for _, wanted := range []string{
			`"level":"ERROR"`, `"request_id":"17"`, "mistake_test.fail", "mistake_test.go:", kind,
		} {
			if !strings.Contains(text, wanted) {
				t.Errorf("%d: the log lacks %s: %s", how, wanted, text)
			}
		}
		for _, leak := range []string{secret, "horse", fmt.Sprintf("[%d", secret[0]), "0x"} {
			if strings.Contains(text, leak) {
				t.Errorf("%d: the log has %q: %s", how, leak, text)
			}
		}
	}
}

func TestErrorsPass(t *testing.T) {
	log, out := logger()
	mine := errors.New("mine")
	if err := mistake.Catch(log, "x", func() error { return mine }); !errors.Is(err, mine) || out.Len() > 0 {
		t.Error(err, out)
	}
}

// TestEveryRequestIsAnswered has handlers panic before and amid their answers.
func TestEveryRequestIsAnswered(t *testing.T) {
	log, out := logger()
	mux := http.NewServeMux()
	mux.HandleFunc("/before", func(http.ResponseWriter, *http.Request) { panic(secret) })
	mux.HandleFunc("/amid", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
		panic(secret)
	})
	mux.HandleFunc("/meant", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	server := httptest.NewServer(mistake.Handler(log, mux, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "sorry", http.StatusInternalServerError)
	}))
	defer server.Close()

	answer, err := http.Get(server.URL + "/before")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusInternalServerError {
		t.Error(answer.Status)
	}
	for _, path := range []string{"/amid", "/meant"} {
		answer, err := http.Get(server.URL + path)
		if err == nil {
			_, err = io.ReadAll(answer.Body)
			_ = answer.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: half an answer passed for a whole one", path)
		}
	}
	if text := out.String(); strings.Count(text, `"level":"ERROR"`) != 2 || strings.Contains(text, secret) {
		t.Error(text)
	}
}
