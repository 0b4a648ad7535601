package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// signer signs requests of one access key and day (SigV4); its key is derived once.
type signer struct {
	accessKey, scope, target string
	key                      []byte
}

// targets are the prefixes of X-Amz-Target by the name of the service in signatures.
var targets = map[string]string{"secretsmanager": "secretsmanager.", "kms": "TrentService."}

func newSigner(accessKey, secret, region, service string, now time.Time) *signer {
	date := now.UTC().Format("20060102")
	s := &signer{accessKey: accessKey, target: targets[service], key: []byte("AWS4" + secret)}
	for _, part := range []string{date, region, service, "aws4_request"} {
		s.key = mac(s.key, part)
	}
	s.scope = date + "/" + region + "/" + service + "/aws4_request"
	return s
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

const signedHeaders = "content-type;host;x-amz-date;x-amz-target"

// request is a whole signed HTTP request.
func (s *signer) request(host, operation string, body []byte, now time.Time) []byte {
	at := now.UTC().Format("20060102T150405Z")
	target := s.target + operation
	sum := sha256.Sum256(body)
	canonical := sha256.Sum256([]byte("POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:" + host +
		"\nx-amz-date:" + at +
		"\nx-amz-target:" + target + "\n\n" + signedHeaders + "\n" + hex.EncodeToString(sum[:])))
	signature := hex.EncodeToString(mac(s.key, "AWS4-HMAC-SHA256\n"+at+"\n"+s.scope+"\n"+hex.EncodeToString(canonical[:])))
	return fmt.Appendf(nil,
		"POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Date: %s\r\nX-Amz-Target: "+
			"%s\r\nAuthorization: AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s\r\nContent-Length: "+
			"%d\r\n\r\n%s",
		host, at, target, s.accessKey, s.scope, signedHeaders, signature, len(body), body)
}

// load is what workers ask for, each over a connection that it keeps: in a closed loop, where each sends its next
// request after the answer, or at a rate.
type load struct {
	endpoints []string // worker i uses endpoint i mod n
	signer    *signer
	workers   int
	duration  time.Duration
	pids      []int
	operation string
	body      func(worker, i int) []byte
	count     int           // stop after so many requests in all; 0 goes by duration
	pause     time.Duration // of a worker before each request, on average
	// rate is how many requests a second come, whether or not earlier ones were answered: each has its time, and its
	// latency counts from there, its wait for a worker included. 0 is a closed loop.
	rate float64
}

// result of a load. CPU is that of the server processes, user and system, a request.
type result struct {
	rate, cpu float64 // requests/s, µs
	p50, p99  time.Duration
	errors    int
	requests  int
}

func (r result) String() string {
	return fmt.Sprintf("%7.0f/s   p50 %7.3f ms   p99 %7.3f ms   %6.1f µs CPU   %d errors",
		r.rate, ms(r.p50), ms(r.p99), r.cpu, r.errors)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// tally is what one worker saw.
type tally struct {
	took   []time.Duration
	errors int
	err    error
}

func (l load) run(ctx context.Context) (result, error) {
	before, err := cpuOf(l.pids)
	if err != nil {
		return result{}, err
	}
	tallies := make([]tally, l.workers)
	start := time.Now()
	var wg sync.WaitGroup
	for w := range l.workers {
		wg.Go(func() { tallies[w].err = l.work(ctx, w, start, &tallies[w]) })
	}
	wg.Wait()
	elapsed := time.Since(start)
	after, err := cpuOf(l.pids)
	if err != nil {
		return result{}, err
	}
	var all []time.Duration
	r := result{}
	for _, t := range tallies {
		if t.err != nil {
			return r, t.err
		}
		all = append(all, t.took...)
		r.errors += t.errors
	}
	if len(all) == 0 {
		return r, errors.New("no request was made")
	}
	slices.Sort(all)
	r.requests = len(all)
	r.rate = float64(len(all)) / elapsed.Seconds()
	r.p50, r.p99 = all[len(all)/2], all[len(all)*99/100]
	r.cpu = float64((after - before).Microseconds()) / float64(len(all))
	return r, nil
}

// work makes the requests of one worker.
func (l load) work(ctx context.Context, worker int, start time.Time, t *tally) error {
	endpoint, err := url.Parse(l.endpoints[worker%len(l.endpoints)])
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", endpoint.Host)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 16<<10)
	for i := 0; ctx.Err() == nil; i++ {
		due := l.due(worker, i, start)
		if l.count > 0 && i*l.workers+worker >= l.count || l.count == 0 && due.Sub(start) > l.duration {
			return nil
		}
		request := l.signer.request(endpoint.Host, l.operation, l.body(worker, i), time.Now())
		if _, err := conn.Write(request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			if t.errors++; t.errors == 1 {
				fmt.Fprintf(os.Stderr, "error: %d %s\n", resp.StatusCode, body)
			}
		}
		t.took = append(t.took, time.Since(due))
	}
	return nil
}

// due waits until a worker's request i has to be made, and returns when that was, or was to be.
func (l load) due(worker, i int, start time.Time) time.Time {
	if l.pause > 0 {
		time.Sleep(rand.N(2 * l.pause))
	}
	if l.rate == 0 {
		return time.Now()
	}
	due := start.Add(time.Duration(float64(i*l.workers+worker) / l.rate * float64(time.Second)))
	time.Sleep(time.Until(due))
	return due
}

// cpuOf is the CPU time that processes have used, user and system (proc(5), 1/100 s).
func cpuOf(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum, nil
}

// anonymous is a process's anonymous memory in MiB.
func anonymous(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, errors.New("no RssAnon")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
