package serving

import (
	"strings"

	"coffer/kms"
	"coffer/refusal"
)

// FindKey is the key that id means: a key id, a key ARN, an alias name or an alias ARN. It is refused
// as [kms.KindNotFound] or [kms.KindInvalidArn].
func (v *View) FindKey(id string) (*kms.Key, error) {
	name, arn := id, ""
	if strings.HasPrefix(id, "arn:") {
		parts := strings.SplitN(id, ":", 6)
		if len(parts) != 6 || parts[1] != "aws" || parts[2] != "kms" || parts[5] == "" {
			return nil, refusal.Errorf(kms.KindInvalidArn, "Invalid arn %s", id)
		}
		name, arn = parts[5], id
		if parts[3] != v.Region || parts[4] != v.Account {
			return nil, refusal.Errorf(kms.KindNotFound, "Key '%s' does not exist", id)
		}
		if !strings.HasPrefix(name, kms.AliasPrefix) {
			var isKey bool
			if name, isKey = strings.CutPrefix(name, "key/"); !isKey {
				return nil, refusal.Errorf(kms.KindInvalidArn, "Invalid arn %s", id)
			}
		}
	}
	if strings.HasPrefix(name, kms.AliasPrefix) {
		alias := v.Alias(v.Account, name)
		if alias == nil {
			return nil, refusal.Errorf(kms.KindNotFound, "Alias %s is not found.", kms.AliasARN(v.Region, v.Account, name))
		}
		name = alias.KeyID
	}
	if key := v.Key(v.Account, name); key != nil {
		return key, nil
	}
	if arn == "" {
		arn = kms.KeyARN(v.Region, v.Account, name)
	}
	return nil, refusal.Errorf(kms.KindNotFound, "Key '%s' does not exist", arn)
}

// Use is a key in a request: who asks what is possible of it at the moment.
func (v *View) Use(key *kms.Key) kms.Change {
	return kms.Change{Key: key, ARN: key.ARN(v.Region), At: v.Millis()}
}
