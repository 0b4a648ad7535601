package fsm_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"coffer/cluster/raftlog"
	"coffer/fsm"
	"coffer/kms"
	"coffer/secret"
)

// Data of each released format is kept in testdata/format-N and read by every later build: a data directory with a
// state and a log in which every kind of command stands, an archive, and the digest of the state behind every entry. It
// is made once, when a format is released, and never changed.
//
//	go test ./fsm -run TestReleasedFormats -release 2
var release = flag.Uint64("release", 0, "make the data of this format; it must not be there yet")

const (
	releasedData    = "data.tar.gz" // state, log and record of term and vote
	releasedArchive = "archive"
	releasedDigests = "digests.json"
)

// recorded are digests of the build that released a format, 16 hexadecimal digits each.
type recorded struct {
	Entries map[uint64]string `json:"entries"` // of the state behind each
	Archive string            `json:"archive"` // which lacks what repeated proposals are recognised by
}

func digestOf(s *fsm.Store) string {
	_, digest := s.Digest()
	return fmt.Sprintf("%016x", digest)
}

// TestReleasedFormats opens the data of every released format, replays its log entry by entry, and restores its
// archive: the digests are those that the build had which released it.
func TestReleasedFormats(t *testing.T) {
	if *release != 0 {
		makeRelease(t, filepath.Join("testdata", fmt.Sprintf("format-%d", *release)))
	}
	releases, err := filepath.Glob("testdata/format-*")
	if err != nil || len(releases) == 0 {
		t.Fatal("no released data", err)
	}
	for _, dir := range releases {
		t.Run(filepath.Base(dir), func(t *testing.T) { readRelease(t, dir) })
	}
}

func readRelease(t *testing.T, dir string) {
	data := t.TempDir()
	unpack(t, filepath.Join(dir, releasedData), data)
	var want recorded
	if b, err := os.ReadFile(filepath.Join(dir, releasedDigests)); err != nil || json.Unmarshal(b, &want) != nil {
		t.Fatal("digests", err)
	}
	last := uint64(len(want.Entries))
	wantDigest := func(what string, s *fsm.Store, want string) {
		t.Helper()
		if got := digestOf(s); got != want {
			t.Errorf("%s: digest %s at entry %d, wanted %s", what, got, s.Applied(), want)
		}
	}

	stored := open(t, data)
	wantDigest("the state", stored, want.Entries[last])
	if _, err := stored.Scrub(t.Context()); err != nil || stored.Applied() != last {
		t.Errorf("the state: entry %d of %d, %v", stored.Applied(), last, err)
	}

	log, err := raftlog.Open(data, raftlog.Options{OnDamage: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if term, err := log.GetUint64([]byte("CurrentTerm")); term != 1 || err != nil {
		t.Errorf("the term is %d, %v", term, err)
	}
	replayed := open(t, t.TempDir())
	for index := uint64(1); index <= last; index++ {
		var entry raft.Log
		if err := log.GetLog(index, &entry); err != nil {
			t.Fatal(err)
		}
		if err, failed := replayed.Apply(&entry).(error); failed {
			t.Fatalf("entry %d: %v", index, err)
		}
		wantDigest("the log", replayed, want.Entries[index])
	}

	archive, err := os.Open(filepath.Join(dir, releasedArchive))
	if err != nil {
		t.Fatal(err)
	}
	restored := open(t, t.TempDir())
	if err := restored.Restore(archive); err != nil {
		t.Fatal(err)
	}
	wantDigest("the archive", restored, want.Archive)
}

// makeRelease writes the data of this build's newest format into dir.
func makeRelease(t *testing.T, dir string) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil { // what was released is never changed
		t.Fatal(err)
	}
	data := t.TempDir()
	log, err := raftlog.Open(data, raftlog.Options{OnDamage: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, data)
	made := recorded{Entries: map[uint64]string{}}
	for i, c := range everyCommand() {
		index := uint64(i + 1)
		entry := raft.Log{Index: index, Term: 1, Type: raft.LogCommand,
			Data: fsm.EncodeEntry([][]byte{fsm.Encode(idOf(index, 0), index-1, c)})}
		if err := log.StoreLogs([]*raft.Log{&entry}); err != nil {
			t.Fatal(err)
		}
		out, ok := s.Apply(&entry).([]fsm.Outcome)
		if !ok || out[0].Err() != nil {
			t.Fatalf("%T was not carried out: %v", c, out[0].Err())
		}
		made.Entries[index] = digestOf(s)
	}
	var archive bytes.Buffer
	if err := s.Save(&archive); err != nil {
		t.Fatal(err)
	}
	restored := open(t, t.TempDir())
	if err := restored.Restore(io.NopCloser(bytes.NewReader(archive.Bytes()))); err != nil {
		t.Fatal(err)
	}
	made.Archive = digestOf(restored)
	b, jsonErr := json.MarshalIndent(made, "", "  ")
	if err := errors.Join(jsonErr, log.SetUint64([]byte("CurrentTerm"), 1), log.Close(), s.Close(),
		os.WriteFile(filepath.Join(dir, releasedDigests), append(b, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, releasedArchive), archive.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	pack(t, data, filepath.Join(dir, releasedData))
}

// TestEveryKindOfCommandIsInTheReleasedLog fails when a kind of command is added that the next release's data would
// lack.
func TestEveryKindOfCommandIsInTheReleasedLog(t *testing.T) {
	there := map[reflect.Type]bool{}
	for _, c := range everyCommand() {
		there[reflect.TypeOf(c)] = true
	}
	for _, c := range fsm.Commands() {
		if !there[reflect.TypeOf(c)] {
			t.Errorf("%T is not in everyCommand", c)
		}
	}
	dir := filepath.Join(t.TempDir(), "format")
	makeRelease(t, dir)
	readRelease(t, dir)
}

// everyCommand is a history in which every kind of command stands, and each is carried out.
func everyCommand() []fsm.Command {
	const here, there, third = "us-east-1", "eu-west-1", "ap-south-1"
	at := int64(1_700_000_000_000)
	ref := func(name string) fsm.Ref { return fsm.Ref{Account: account, Name: name, Suffix: "AAAAAA"} }
	key := func(id string) fsm.KeyRef { return fsm.KeyRef{Account: account, ID: id} }
	version := func(id string) *fsm.NewVersion {
		return &fsm.NewVersion{ID: id, KeyID: "k", WrappedKey: []byte{1, 2}, Sealed: []byte("sealed " + id)}
	}
	material := func(id string) kms.Material { return kms.Material{ID: id, Wrapped: []byte("wrapped " + id)} }
	newKey := func(id string, spec kms.Spec) *fsm.CreateKey {
		return &fsm.CreateKey{Root: "r", Key: kms.Key{
			ID: id, Account: account, Spec: spec, Created: at, Materials: []kms.Material{material("0")}}}
	}
	imported := &fsm.CreateKey{Root: "r", Key: kms.Key{
		ID: "imported", Account: account, Spec: kms.Symmetric, Created: at, External: true}}
	link := func(id, region string) secret.NewLink { return secret.NewLink{ID: id, Region: region} }
	from := fsm.Sender{Region: there, Epoch: at, Term: 1}
	received := func(id string) fsm.ReceivedVersion { return fsm.ReceivedVersion{NewVersion: *version(id), Created: at} }
	labels := func(current string) (l secret.Labels) {
		s := secret.Secret{}
		if err := s.Attach(current, []string{secret.Current}); err != nil {
			panic(err)
		}
		return s.Labels
	}
	state := func(name, linkID, current string) *fsm.Receive {
		return &fsm.Receive{
			From: from, Ref: ref(name), At: at, Link: linkID, Revision: 1, Created: at, Changed: at, Labels: labels(current),
			Versions: []fsm.ReceivedVersion{received(current)}, Total: 1, Full: true, IDs: []string{current},
			Displace: "displaced-" + name,
		}
	}
	partial := state("replica/partial", "link-p", "v1")
	partial.Total, partial.IDs = 2, []string{"v1", "v2"}
	overwriting := state("displaced", "link-o", "v1")
	overwriting.Overwrite = true
	overwriting.Ref.Suffix = "BBBBBB"
	description, yes := "words here", true
	return []fsm.Command{
		&fsm.InitCluster{
			Cluster: fsm.Cluster{
				ID: "c", Region: here, Account: account, RootKeyID: "r", Created: at, DefaultKeyID: "k", Epoch: at,
				Format: fsm.FirstFormat},
			Key: kms.Key{
				ID: "k", Account: account, Managed: true, Spec: kms.Symmetric, Created: at,
				Materials: []kms.Material{material("m")}},
		},
		&fsm.RaiseFormat{To: fsm.FirstFormat, Term: 1},
		// Secrets.
		&fsm.CreateSecret{Ref: ref("app/db"), At: at, Description: description, Version: version("v1"),
			Tags: []secret.Tag{{Key: "team", Value: "a"}}},
		&fsm.CreateSecret{Ref: ref("app/other"), At: at},
		&fsm.PutVersion{Ref: ref("app/db"), At: at + 1, Version: *version("v2"), Labels: []string{secret.Current, "mine"}},
		&fsm.UpdateSecret{Ref: ref("app/db"), At: at + 2, Description: &description, Version: version("v3")},
		&fsm.MoveLabel{Ref: ref("app/db"), At: at + 3, Label: "mine", From: "v2", To: "v1"},
		&fsm.TagSecret{Ref: ref("app/db"), At: at + 4, Tags: []secret.Tag{{Key: "k", Value: "v"}, {Key: "l", Value: "w"}}},
		&fsm.UntagSecret{Ref: ref("app/db"), At: at + 5, Keys: []string{"l"}},
		&fsm.SetPolicy{Ref: ref("app/db"), At: at + 6, Policy: `{"Version":"2012-10-17"}`},
		&fsm.RecordAccess{Reads: []fsm.Access{{Ref: ref("app/db"), Version: "v3", Day: 20_000}}},
		&fsm.ScheduleDeletion{Ref: ref("app/other"), At: at + 7, Due: at + 100},
		&fsm.CancelDeletion{Ref: ref("app/other"), At: at + 8},
		&fsm.ScheduleDeletion{Ref: ref("app/other"), At: at + 9, Due: at + 100},
		&fsm.PurgeDue{At: at + 101, Max: 10},
		&fsm.CreateSecret{Ref: ref("app/gone"), At: at, Version: version("v1")},
		&fsm.DeleteNow{Ref: ref("app/gone")},
		&fsm.Checkpoint{},
		// Keys.
		newKey("k1", kms.Symmetric), newKey("k2", kms.HMAC256), newKey("k3", kms.Symmetric), imported,
		&fsm.EnableKey{Ref: key("k1"), At: at + 1},
		&fsm.EnableKey{Ref: key("k1"), At: at + 2, Enabled: true},
		&fsm.SetKeyDescription{Ref: key("k1"), At: at + 3, Description: description},
		&fsm.SetKeyPolicy{Ref: key("k1"), At: at + 4, Policy: `{"Version":"2012-10-17"}`},
		&fsm.TagKey{Ref: key("k1"), At: at + 5, Tags: []kms.Tag{{Key: "k", Value: "v"}, {Key: "l", Value: "w"}}},
		&fsm.UntagKey{Ref: key("k1"), At: at + 6, Keys: []string{"l"}},
		&fsm.SetKeyRotation{Ref: key("k1"), At: at + 7, Period: 90},
		&fsm.RotateKey{Ref: key("k1"), At: at + 8, Material: material("1"), Generation: 1, Root: "r"},
		&fsm.SetAlias{Ref: key("k1"), At: at + 9, Name: "alias/app", New: true},
		&fsm.SetAlias{Ref: key("k3"), At: at + 10, Name: "alias/app"},
		&fsm.SetAlias{Ref: key("k1"), At: at + 11, Name: "alias/gone", New: true},
		&fsm.DeleteAlias{Account: account, Name: "alias/gone"},
		&fsm.ImportMaterial{Ref: key("imported"), At: at + 12, Material: material("i0"), Root: "r"},
		&fsm.ImportMaterial{Ref: key("imported"), At: at + 13, Material: material("i1"), Generation: 1, Root: "r",
			Import: kms.Import{New: &yes}},
		&fsm.RotateToImported{Ref: key("imported"), At: at + 14},
		&fsm.DeleteMaterial{Ref: key("imported"), At: at + 15, MaterialID: "i1"},
		&fsm.ScheduleKeyDeletion{Ref: key("k2"), At: at + 16, Due: at + 1000},
		&fsm.CancelKeyDeletion{Ref: key("k2"), At: at + 17},
		&fsm.ScheduleKeyDeletion{Ref: key("k2"), At: at + 18, Due: at + 1000},
		&fsm.EndKeys{At: at + 1001, Keys: []fsm.KeyRef{key("k2")}},
		&fsm.RewrapValues{At: at + 20, Values: []fsm.RewrappedValue{{
			Ref: ref("app/db"), New: fsm.Rewrapped{Version: "v1", KeyID: "k1", WrappedKey: []byte{3}}, Old: []byte{1, 2}}}},
		// Regions: this one's primaries.
		&fsm.BeginEpoch{At: at + 30},
		&fsm.AddReplicationKey{Root: "r", Key: fsm.ReplicationKey{
			ID: "rk", Public: []byte{1}, Wrapped: []byte("wrapped rk"), Created: at}},
		&fsm.SetPeer{Region: there, At: at + 31, KeyID: "their", Public: []byte{2}, Epoch: at},
		&fsm.SetSuccessors{Region: there, By: []string{third}},
		&fsm.ReportPeer{Region: there, Report: fsm.Report{At: at + 32, Lagging: 1, Oldest: at}},
		&fsm.AddLinks{Ref: ref("app/db"), At: at + 33, Links: []secret.NewLink{link("l1", there), link("l2", third)}},
		&fsm.Settle{Region: there, At: at + 34, Answers: []fsm.LinkAnswer{{
			Ref: ref("app/db"), Link: "l1", Revision: 3, ReadAt: at + 33, KeyID: "their"}}},
		&fsm.Repair{Region: there, At: at + 35, Links: []fsm.LinkRef{{Ref: ref("app/db"), Link: "l1"}}},
		&fsm.RemoveLinks{Ref: ref("app/db"), At: at + 36, Regions: []string{third}},
		&fsm.Settle{Region: there, At: at + 36, Answers: []fsm.LinkAnswer{{
			Ref: ref("app/db"), Link: "l1", Revision: 100, ReadAt: at + 36, KeyID: "their"}}},
		&fsm.HandOver{Ref: ref("app/db"), At: at + 37, To: there, Links: []secret.NewLink{link("l3", here)}},
		// Replicas of another region's.
		state("replica/whole", "link-w", "v1"),
		partial,
		&fsm.ReceiveVersions{From: from, Ref: ref("replica/partial"), At: at + 40, Link: "link-p", Revision: 1,
			Versions: []fsm.ReceivedVersion{received("v2")}, Total: 2, Last: true},
		&fsm.Promote{Ref: ref("replica/whole"), At: at + 41, Links: []secret.NewLink{link("l4", third)}, Lost: there},
		&fsm.ReceiveNotice{From: from, At: at + 42, Notice: fsm.Notice{
			Kind: fsm.LinkRemoved, Link: "link-p", Ref: ref("replica/partial"), Since: at}},
		&fsm.CreateSecret{Ref: ref("displaced"), At: at + 43, Version: version("v1")},
		overwriting,
		&fsm.RestoreDisplaced{Account: account, ID: "displaced-displaced", At: at + 44,
			As:       &fsm.Ref{Account: account, Name: "back", Suffix: "CCCCCC"},
			Versions: []fsm.ReceivedVersion{received("v1")}},
		&fsm.Checkpoint{},
		// Last, since it wraps all there is.
		&fsm.RotateRootKey{From: "r", To: "r2", Spec: "file:/root-key", Materials: []fsm.RewrappedMaterial{
			{Old: []byte("wrapped m"), New: []byte("anew m")}, {Old: []byte("wrapped 0"), New: []byte("anew 0")},
			{Old: []byte("wrapped 1"), New: []byte("anew 1")}, {Old: []byte("wrapped i0"), New: []byte("anew i0")},
			{Old: []byte("wrapped rk"), New: []byte("anew rk")},
		}},
	}
}

// pack writes the files of a directory into an archive.
func pack(t *testing.T, dir, to string) {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), zip.Close(), os.WriteFile(to, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, from, dir string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else if b, readErr := io.ReadAll(r); readErr != nil {
			err = readErr
		} else {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
