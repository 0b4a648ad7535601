// Package imports_test holds the rooms of the project to their floors.
package imports_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// floors are the rooms from the ground up. A room imports only rooms of lower floors, and packages inside its
// own folder. The table of README.md shows them from the top down.
var floors = [][]string{
	{"refusal"},
	{"secret", "kms", "iam"},
	{"damage", "durable", "mistake"},
	{"rows"},
	{"fsm"},
	{"cluster"},
	{"serving"},
	{"secretsmanager", "kms/service"},
	{"replication"},
	{"httpapi"},
	{"node"},
	{"cmd", "e2e"},
}

// internal has what tests and people use. It may import every room, and only the top floor imports it.
const internal = "internal"

// impure is what reaches disks and networks; the pure core must not import it.
var impure = []string{"net", "os", "os/exec", "database/sql", "go.etcd.io/bbolt", "github.com/hashicorp/raft"}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestRoomsImportDownward(t *testing.T) {
	rooms := map[string]bool{}
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, "coffer/")
		room := roomOf(path)
		if room == internal {
			continue
		}
		rooms[room] = true
		floor := floorOf(room)
		if floor < 0 {
			t.Errorf("%s is in no room that has a floor: give its folder one here, and a line in README.md", path)
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, "coffer/")
			switch {
			case ours && roomOf(other) == internal && floor < len(floors)-1:
				t.Errorf("%s imports %s, which is not for what runs in production", path, other)
			case ours && roomOf(other) != room && floorOf(roomOf(other)) >= floor:
				t.Errorf("%s imports %s, which is not on a lower floor", path, other)
			case floor <= floorOf("secret") && path == room && slices.Contains(impure, imported):
				t.Errorf("the pure core %s imports %s", path, imported)
			}
		}
	}
	for _, room := range slices.Concat(floors...) {
		if !rooms[room] {
			t.Errorf("the room %s does not exist", room)
		}
	}
}

// TestReadmeShowsTheFloors compares the table that a newcomer sees with the floors.
func TestReadmeShowsTheFloors(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(readme), "\n| folder | what it is |\n")
	if !found {
		t.Fatal("README.md has no table of folders")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	shown := map[string]bool{}
	above := len(floors)
	for row := range strings.Lines(table) {
		folders, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, name := range regexp.MustCompile("`[^`]+`").FindAllString(folders, -1) {
			room := roomOf(strings.Trim(name, "`"))
			floor := floorOf(room)
			if floor < 0 { // internal, scripts
				continue
			}
			if floor > above {
				t.Errorf("README.md shows %s below rooms that it must not be imported by", room)
			}
			shown[room], above = true, floor
		}
	}
	for _, room := range slices.Concat(floors...) {
		if !shown[room] {
			t.Errorf("the table of folders in README.md lacks %s", room)
		}
	}
}

// packages are all of the module, without their tests.
func packages(t *testing.T) (all []pkg) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "coffer/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// roomOf is the room that a path is in: the longest of its beginnings that has a floor (kms/service is no part of
// kms), or its first folder.
func roomOf(path string) string {
	parts := strings.Split(path, "/")
	for n := len(parts); n > 0; n-- {
		if room := strings.Join(parts[:n], "/"); floorOf(room) >= 0 {
			return room
		}
	}
	return parts[0]
}

func floorOf(room string) int {
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, room) })
}
