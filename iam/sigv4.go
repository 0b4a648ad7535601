package iam

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	// Window is how far a signature's time may be from ours.
	Window = 5 * time.Minute
	// maxExpires is the longest life of a presigned request, in seconds.
	maxExpires = 7 * 24 * 60 * 60
)

// Request is what a signature covers, but for the body, which may not be there yet.
type Request struct {
	Method        string
	Host          string
	RawQuery      string
	Header        http.Header
	ContentLength int64
}

// Verifier verifies signatures made for one region and one service. The path of every request is "/".
type Verifier struct {
	Region  string
	Service string
	Keys    Keys

	once    sync.Once
	derived *lru.Cache[derivedID, []byte]
}

type derivedID struct{ accessKey, secret, date string }

// signature is what the caller sent, in either form.
type signature struct {
	accessKey, date, region, service string
	signedHeaders                    string
	sent                             [sha256.Size]byte
	at                               string // X-Amz-Date
	expires                          time.Duration
	presigned                        bool
	token                            bool // a session token was sent
}

// Claim is a request that may be whose it says it is: everything about its signature that can be known without the body
// is in order.
type Claim struct {
	verifier  *Verifier
	request   *Request
	signature signature
	key       AccessKey
}

// Examine checks all of r's signature, in header or presigned form, that needs no body: the form, the scope, the time
// against now, which headers are signed, and that there is such an access key. Who knows no access key's id is refused
// before a byte is kept for him. It fails with an *refusal.Error.
func (v *Verifier) Examine(r *Request, now time.Time) (*Claim, error) {
	sig, err := parse(r)
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(timeFormat, sig.at)
	if err != nil {
		return nil, errDate
	}
	if err := v.checkScope(sig); err != nil {
		return nil, err
	}
	if err := inWindow(at, now, sig); err != nil {
		return nil, err
	}
	if err := checkSignedHeaders(r, sig); err != nil {
		return nil, err
	}
	key, ok := v.Keys.AccessKey(sig.accessKey)
	if !ok || sig.token {
		return nil, errUnrecognized
	}
	return &Claim{verifier: v, request: r, signature: sig, key: key}, nil
}

// Prove authenticates the request by its signature over everything, body included. It fails with an *refusal.Error.
func (c *Claim) Prove(body []byte) (Principal, error) {
	want, err := c.verifier.sign(c.request, body, c.signature, c.key)
	if err != nil {
		return Principal{}, err
	}
	if !hmac.Equal(want, c.signature.sent[:]) {
		return Principal{}, errMismatch
	}
	return c.key.Principal, nil
}

func (v *Verifier) checkScope(sig signature) error {
	switch {
	case sig.date != sig.at[:8]:
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "+
			"'%s' != '%s'.", clip(sig.date), sig.at[:8])
	case sig.region != v.Region:
		return invalid("Credential should be scoped to a valid region, not '%s'. This endpoint serves '%s'.",
			clip(sig.region), v.Region)
	case sig.service != v.Service:
		return invalid("Credential should be scoped to correct service: '%s'.", v.Service)
	}
	return nil
}

func inWindow(at, now time.Time, sig signature) error {
	life := Window
	if sig.presigned {
		life = sig.expires
	}
	if early := now.Add(-life); at.Before(early) {
		return invalid("Signature expired: %s is now earlier than %s (%s - %s.)",
			at.Format(timeFormat), early.UTC().Format(timeFormat), now.UTC().Format(timeFormat), minutes(life))
	}
	if late := now.Add(Window); at.After(late) {
		return invalid("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			at.Format(timeFormat), late.UTC().Format(timeFormat), now.UTC().Format(timeFormat))
	}
	return nil
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return strconv.Itoa(int(d/time.Second)) + " sec"
}

func parse(r *Request) (signature, error) {
	auth := r.Header["Authorization"]
	if len(auth) > 1 {
		return signature{}, incomplete("The request has %d Authorization headers, wanted one.", len(auth))
	}
	presigned := strings.Contains(r.RawQuery, "X-Amz-Algorithm=")
	switch {
	case len(auth) == 1 && presigned:
		return signature{}, incomplete("The request is signed twice: in its Authorization header and in its query.")
	case len(auth) == 1:
		return parseHeader(auth[0], r.Header)
	case presigned:
		return parseQuery(r.RawQuery)
	}
	return signature{}, errMissing
}

// parseHeader parses "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…", the three in any order.
func parseHeader(auth string, header http.Header) (sig signature, err error) {
	rest, ok := strings.CutPrefix(auth, algorithm+" ")
	if !ok {
		return sig, incomplete("Unsupported Authorization header: wanted the algorithm %s.", algorithm)
	}
	var credential, sent string
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		var into *string
		switch name {
		case "Credential":
			into = &credential
		case "SignedHeaders":
			into = &sig.signedHeaders
		case "Signature":
			into = &sent
		}
		if !ok || into == nil || *into != "" || value == "" {
			return sig, incomplete("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature', each once.")
		}
		*into = value
	}
	if credential == "" || sig.signedHeaders == "" || sent == "" {
		return sig, incomplete("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature', each once.")
	}
	dates := header["X-Amz-Date"]
	if len(dates) != 1 {
		return sig, incomplete("Authorization header requires existence of one 'X-Amz-Date' header.")
	}
	sig.at = dates[0]
	sig.token = len(header["X-Amz-Security-Token"]) > 0
	return sig, sig.scope(credential, sent)
}

func (sig *signature) scope(credential, sent string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[4] != terminator || parts[0] == "" {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/%s.",
			terminator)
	}
	sig.accessKey, sig.date, sig.region, sig.service = parts[0], parts[1], parts[2], parts[3]
	if len(sent) != 2*sha256.Size || strings.ToLower(sent) != sent {
		return incomplete("Signature must be 64 lower-case hexadecimal digits.")
	}
	if _, err := hex.Decode(sig.sent[:], []byte(sent)); err != nil {
		return incomplete("Signature must be 64 lower-case hexadecimal digits.")
	}
	return nil
}

func parseQuery(raw string) (sig signature, err error) {
	params, err := queryParams(raw)
	if err != nil {
		return sig, err
	}
	one := map[string]string{}
	for _, p := range params {
		if strings.HasPrefix(p.key, "X-Amz-") {
			if _, twice := one[p.key]; twice {
				return sig, incomplete("The query parameter %s stands there twice.", clip(p.key))
			}
			one[p.key] = p.value
		}
	}
	if one["X-Amz-Algorithm"] != algorithm {
		return sig, incomplete("X-Amz-Algorithm must be %s.", algorithm)
	}
	required := []string{"X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"}
	for _, name := range required {
		if one[name] == "" {
			return sig, incomplete("AWS query-string parameters must include '%s'.", name)
		}
	}
	seconds, convErr := strconv.Atoi(one["X-Amz-Expires"])
	if convErr != nil || seconds < 1 || seconds > maxExpires {
		return sig, incomplete("X-Amz-Expires must be a number of seconds from 1 to %d.", maxExpires)
	}
	sig.presigned = true
	sig.expires = time.Duration(seconds) * time.Second
	sig.at = one["X-Amz-Date"]
	sig.signedHeaders = one["X-Amz-SignedHeaders"]
	_, sig.token = one["X-Amz-Security-Token"]
	return sig, sig.scope(one["X-Amz-Credential"], one["X-Amz-Signature"])
}

// checkSignedHeaders wants host and every x-amz-* header among the signed ones, which are sorted, unique and there.
func checkSignedHeaders(r *Request, sig signature) error {
	names := strings.Split(sig.signedHeaders, ";")
	host := false
	for i, name := range names {
		if name == "" || strings.ToLower(name) != name || i > 0 && names[i-1] >= name {
			return incomplete("SignedHeaders must be lower-case header names, sorted, each once, separated by ';'.")
		}
		host = host || name == "host"
	}
	if !host {
		return invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for _, name := range names {
		elsewhere := name == "host" || name == "content-length" // net/http takes these two out of the header
		if !elsewhere && len(r.Header[http.CanonicalHeaderKey(name)]) == 0 {
			return incomplete("'%s' is named as a SignedHeader, but it does not exist in the HTTP request.", clip(name))
		}
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") && !contains(names, strings.ToLower(name)) {
			return invalid("'%s' must be a 'SignedHeader' in the AWS Authorization.", clip(name))
		}
	}
	return nil
}

func contains(sorted []string, s string) bool {
	i := sort.SearchStrings(sorted, s)
	return i < len(sorted) && sorted[i] == s
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// sign computes the signature that the request should carry.
func (v *Verifier) sign(r *Request, body []byte, sig signature, key AccessKey) ([]byte, error) {
	bodySum := sha256.Sum256(body)
	payload := hex.EncodeToString(bodySum[:])
	if sent := r.Header["X-Amz-Content-Sha256"]; len(sent) > 0 && (len(sent) > 1 || sent[0] != payload) {
		return nil, invalid("The header X-Amz-Content-Sha256 does not match the body that was sent.")
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b := append((*buf)[:0], r.Method...)
	b = append(b, "\n/\n"...)
	var err error
	if r.RawQuery != "" {
		if b, err = appendQuery(b, r.RawQuery); err != nil {
			return nil, err
		}
	}
	b = append(b, '\n')
	for rest := sig.signedHeaders; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, ";")
		b = append(append(b, name...), ':')
		switch name {
		case "host":
			b = append(b, r.Host...)
		case "content-length":
			b = strconv.AppendInt(b, r.ContentLength, 10)
		default:
			for i, value := range r.Header[http.CanonicalHeaderKey(name)] {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendTrimmed(b, value)
			}
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, sig.signedHeaders...)
	b = append(b, '\n')
	b = append(b, payload...)
	canonical := sha256.Sum256(b)

	b = append(b[:0], algorithm+"\n"...)
	b = append(append(b, sig.at...), '\n')
	for _, part := range []string{sig.date, sig.region, sig.service} {
		b = append(append(b, part...), '/')
	}
	b = append(b, terminator+"\n"...)
	b = hex.AppendEncode(b, canonical[:])
	mac := hmac.New(sha256.New, v.signingKey(key, sig.date))
	mac.Write(b)
	*buf = b
	return mac.Sum(nil), nil
}

// derivedKeys bounds the cache of signing keys: one for each access key and day.
const derivedKeys = 4096

func (v *Verifier) signingKey(key AccessKey, date string) []byte {
	v.once.Do(func() {
		v.derived, _ = lru.New[derivedID, []byte](derivedKeys) // fails only for a size that is not positive
	})
	id := derivedID{key.ID, key.Secret, date}
	if k, ok := v.derived.Get(id); ok {
		return k
	}
	k := []byte("AWS4" + key.Secret)
	for _, part := range []string{date, v.Region, v.Service, terminator} {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(part))
		k = mac.Sum(nil)
	}
	v.derived.Add(id, k)
	return k
}

// appendTrimmed appends a header value without spaces around it and with single spaces within.
func appendTrimmed(b []byte, value string) []byte {
	value = strings.Trim(value, " \t")
	for i := range len(value) {
		if value[i] == ' ' && i > 0 && value[i-1] == ' ' {
			continue
		}
		b = append(b, value[i])
	}
	return b
}

type param struct{ key, value string }

func queryParams(raw string) ([]param, error) {
	var params []param
	for _, pair := range strings.Split(raw, "&") {
		if pair == "" {
			continue
		}
		k, val, _ := strings.Cut(pair, "=")
		key, ok1 := unescape(k)
		value, ok2 := unescape(val)
		if !ok1 || !ok2 {
			return nil, incomplete("The query string is not correctly percent-encoded.")
		}
		params = append(params, param{key, value})
	}
	return params, nil
}

// appendQuery appends the canonical query string: all parameters but the signature, encoded, sorted.
func appendQuery(b []byte, raw string) ([]byte, error) {
	params, err := queryParams(raw)
	if err != nil {
		return nil, err
	}
	var pairs []param
	for _, p := range params {
		if p.key != "X-Amz-Signature" {
			pairs = append(pairs, param{escape(p.key), escape(p.value)})
		}
	}
	sort.Slice(pairs, func(i, j int) bool {
		a, c := pairs[i], pairs[j]
		return a.key < c.key || a.key == c.key && a.value < c.value
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(append(b, p.key...), '='), p.value...)
	}
	return b, nil
}

func unescape(s string) (string, bool) {
	if !strings.ContainsAny(s, "%+") {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			out = append(out, byte(n))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out), true
}

// escape percent-encodes everything but unreserved characters (RFC 3986, section 2.3).
func escape(s string) string {
	const hexDigits = "0123456789ABCDEF"
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			out = append(out, c)
		} else {
			out = append(out, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(out)
}

// clip keeps what a caller sent from filling an error message.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
