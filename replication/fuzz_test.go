package replication_test

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"coffer/fsm"
	"coffer/internal/testregion"
	"coffer/replication"
	"coffer/secret"
	sm "coffer/secretsmanager"
)

// FuzzMessages hands a region what another one could send, opened: nothing may panic, and a secret that is the
// region's own stays as it is.
func FuzzMessages(f *testing.F) {
	r := testregion.New(f)
	secrets := sm.New(r.Base)
	agent := replication.New(r.Base, secrets, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	name, value, token := "own", "mine", "11111111-1111-1111-1111-111111111111"
	in := &sm.CreateSecretInput{Name: &name}
	in.SecretString, in.ClientRequestToken = &value, &token
	made, err := secrets.CreateSecret(r.Ctx(), in)
	if err != nil {
		f.Fatal(err)
	}
	suffix := made.ARN[len(made.ARN)-secret.SuffixLen:]
	for _, content := range []any{
		&sm.State{
			Account: testregion.Account, Name: "own", Suffix: suffix, Labels: secret.Labels("").With("AWSCURRENT", "v"),
			Versions: []sm.StateVersion{{ID: "v", Content: []byte("x")}}, Total: 1, Full: true, IDs: []string{"v"},
		},
		&sm.State{Account: testregion.Account, Name: "other", Suffix: "AAAAAA", Total: 0, Full: true},
		&sm.Versions{
			Account: testregion.Account, Name: "own", Suffix: suffix, Versions: []sm.StateVersion{{ID: "w"}}, Total: 2,
			Last: true,
		},
		&fsm.Notice{Kind: fsm.LinkRemoved, Link: "l", Ref: fsm.Ref{Account: testregion.Account, Name: "own", Suffix: suffix}},
		&fsm.Notice{
			Kind: fsm.LinkMoved, Link: "l", NewLink: "m", Primary: "ap-south-1",
			Ref: fsm.Ref{Account: testregion.Account, Name: "own", Suffix: suffix},
		},
	} {
		b, err := replication.Encode(content)
		if err != nil {
			f.Fatal(err)
		}
		for kind := range byte(4) {
			f.Add(kind, "l", uint64(1), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, link string, revision uint64, content []byte) {
		agent.Bring(r.Ctx(), "eu-west-1", kind, link, revision, content)
		for _, path := range replication.Paths {
			_, _ = agent.Answer(r.Ctx(), "eu-west-1", path, content)
		}
		got, err := secrets.GetSecretValue(r.Ctx(), &sm.GetSecretValueInput{SecretID: &made.ARN})
		if err != nil || got.SecretString != value {
			t.Fatalf("the region's own secret was touched: %v", err)
		}
	})
}
