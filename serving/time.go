package serving

import (
	"errors"
	"math"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Time is milliseconds since 1970; clients see seconds with a fraction.
type Time int64

// MarshalJSONTo writes seconds, as the JSON 1.1 protocol has timestamps.
func (t Time) MarshalJSONTo(enc *jsontext.Encoder) error {
	return enc.WriteValue(t.Append(make([]byte, 0, 32)))
}

// Append appends what MarshalJSONTo writes.
func (t Time) Append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(t)/1000, 10)
	if ms := int64(t) % 1000; ms != 0 {
		b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return b
}

// UnmarshalJSONFrom reads seconds with a fraction.
func (t *Time) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	var seconds float64
	if err := json.UnmarshalDecode(dec, &seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds > 1e11 {
		return errors.New("a time that is no time")
	}
	*t = Time(math.Round(seconds * 1000))
	return nil
}
