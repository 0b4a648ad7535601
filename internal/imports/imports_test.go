// Package imports_test holds the rooms of the project to their floors.
package imports_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors are the rooms from the ground up. A room imports only rooms of lower floors, and packages inside its
// own folder.
var floors = [][]string{
	{"secret", "kms", "iam"},
	{"damage", "durable"},
	{"fsm"},
	{"cluster"},
	{"serving"},
	{"secretsmanager", "kms/service"},
	{"replication"},
	{"httpapi"},
	{"node"},
	{"cmd", "e2e"},
}

// impure is what reaches disks and networks; the pure core must not import it.
var impure = []string{"net", "os", "os/exec", "database/sql", "go.etcd.io/bbolt", "github.com/hashicorp/raft"}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestRoomsImportDownward(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "coffer/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string]bool{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room, path := roomOf(p.ImportPath)
		if room == "internal" {
			continue
		}
		rooms[room] = true
		floor := floorOf(room)
		if floor < 0 {
			t.Errorf("the room %s has no floor", room)
			continue
		}
		for _, imported := range p.Imports {
			if other, _ := roomOf(imported); strings.HasPrefix(imported, "coffer/") && other != room && floorOf(other) >= floor {
				t.Errorf("%s imports %s, which is not on a lower floor", p.ImportPath, imported)
			}
			if floor == 0 && path == room && slices.Contains(impure, imported) {
				t.Errorf("the pure core %s imports %s", room, imported)
			}
		}
	}
	for _, floor := range floors {
		for _, room := range floor {
			if !rooms[room] {
				t.Errorf("the room %s does not exist", room)
			}
		}
	}
}

func roomOf(importPath string) (room, path string) {
	path = strings.TrimPrefix(importPath, "coffer/")
	if floorOf(path) >= 0 {
		return path, path // kms/service is a room of its own
	}
	room, _, _ = strings.Cut(path, "/")
	return room, path
}

func floorOf(room string) int {
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, room) })
}
