package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"coffer/internal/testcluster"
)

// run is a `coffer dev` command from another terminal.
func (d *devProcess) run(args ...string) (string, error) {
	cmd := exec.Command(d.binary, append(append([]string{"dev"}, args...), "--data", d.dir)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is run, of a command that has to work. It returns what was printed.
func (d *devProcess) must(args ...string) string {
	d.t.Helper()
	out, err := d.run(args...)
	if err != nil {
		d.t.Fatalf("coffer dev %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	d.reload()
	return out
}

// refused is run, of a command that must fail, saying why.
func (d *devProcess) refused(why string, args ...string) {
	d.t.Helper()
	if out, err := d.run(args...); err == nil || !strings.Contains(out, why) {
		d.t.Errorf("coffer dev %s: %v, wanted %q:\n%s", strings.Join(args, " "), err, why, out)
	}
}

// shows waits until `coffer dev status` matches all patterns.
func (d *devProcess) shows(patterns ...string) {
	d.t.Helper()
	d.eventually("the status", func() error {
		status := d.must("status")
		for _, p := range patterns {
			if !regexp.MustCompile("(?m)" + p).MatchString(status) {
				return fmt.Errorf("nothing matches %q in\n%s", p, status)
			}
		}
		return nil
	})
}

// leader is the index of the node that leads, by `coffer dev status`.
func (d *devProcess) leader() (index int) {
	d.t.Helper()
	d.eventually("a leader", func() error {
		found := regexp.MustCompile(`n([1-3]) +running +leader`).FindStringSubmatch(d.must("status"))
		if found == nil {
			return errors.New("none")
		}
		index = int(found[1][0] - '1')
		return nil
	})
	return index
}

func (d *devProcess) put(i int, value string) error {
	_, err := d.client(i).PutSecretValue(d.t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("s"), SecretString: &value,
	}, testcluster.Once)
	return err
}

// reads fails the test unless node i answers the value, marked as stale or not.
func (d *devProcess) reads(i int, value string, stale bool) {
	d.t.Helper()
	mark := &testcluster.StaleMark{Next: &http.Transport{DisableKeepAlives: true}}
	client := secretsmanager.New(d.client(i).Options(), func(o *secretsmanager.Options) {
		o.HTTPClient = &http.Client{Transport: mark}
	})
	d.eventually("the value", func() error {
		got, err := client.GetSecretValue(d.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("s")})
		switch {
		case err != nil:
			return err
		case mark.Stale != stale:
			return fmt.Errorf("stale: %v, wanted %v", mark.Stale, stale)
		case *got.SecretString != value:
			return fmt.Errorf("%q, wanted %q", *got.SecretString, value)
		}
		return nil
	})
}

// ids are the names of the nodes: the one at index first, then the others.
func ids(first int) (string, string, string) {
	names := []string{"n1", "n2", "n3"}
	i := slices.Delete(slices.Clone(names), first, first+1)
	return names[first], i[0], i[1]
}

// TestDevLosesNodes plays as a person would with `coffer dev --nodes 3`: nodes are killed, paused, stopped, end by
// themselves, more than one at a time, and come back where they were.
func TestDevLosesNodes(t *testing.T) {
	binary, err := testcluster.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := startDev(t, binary, filepath.Join(t.TempDir(), "dev"), "--nodes", "3")
	before := d.info.Regions["us-east-1"].Endpoints
	if _, err := d.client(0).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("s"), SecretString: aws.String("one"),
	}); err != nil {
		t.Fatal(err)
	}

	d.losesLeader()
	d.losesMajority()
	if after := d.info.Regions["us-east-1"].Endpoints; !slices.Equal(after, before) {
		t.Errorf("the endpoints were %v and are %v", before, after)
	}
	d.leaderHangs()
	d.nodeEnds()
	select {
	case <-d.done:
		t.Error("coffer dev ended")
	default:
	}
}

// at is the index of a node.
func at(id string) int { return int(id[1] - '1') }

// losesLeader kills the leader: the others go on, and what is not possible now is refused.
func (d *devProcess) losesLeader() {
	lead := d.leader()
	dead, a, b := ids(lead)
	out := d.must("kill", dead)
	for _, want := range []string{
		"It led the region; now n", "2 of 3 nodes run: reads and writes go on", "start " + dead,
	} {
		if !strings.Contains(out, want) {
			d.t.Errorf("kill did not say %q:\n%s", want, out)
		}
	}
	d.eventually("a write after the leader was killed", func() error { return d.put(at(a), "two") })
	d.reads(at(b), "two", false)
	d.shows(dead+` +killed +- `, ` running +leader `, ` running +follower `)
	if n := d.info.Regions["us-east-1"].Nodes[lead]; n.PID != 0 || n.State != nodeKilled {
		d.t.Errorf("dev.json says of the killed node: %+v", n)
	}
	operator := filepath.Join(d.dir, "us-east-1", operatorYAML)
	if out, err := exec.Command(d.binary, "cluster", "members", "--config", operator).CombinedOutput(); err != nil {
		d.t.Errorf("cluster members with %s: %v\n%s", operator, err, out)
	}
	d.refused("is killed", "kill", dead)
	d.refused("is running", "start", a)
	d.refused("wanted one of n1, n2, n3", "kill", "n4")
	d.must("start", dead)
	d.shows(`3 of 3 nodes run`)
}

// losesMajority kills two nodes: writes are refused, reads go on and say so, until one of them is back.
func (d *devProcess) losesMajority() {
	dead, a, b := ids(d.leader())
	d.must("kill", dead)
	out := d.must("kill", a)
	if !strings.Contains(out, "1 of 3 nodes runs, which is no majority: writes are refused. Reads go on at "+b) {
		d.t.Errorf("kill said\n%s", out)
	}
	if err := d.put(at(b), "refused"); err == nil {
		d.t.Error("a write without a majority was accepted")
	}
	d.reads(at(b), "two", true)
	d.must("start", dead)
	d.eventually("a write with a majority again", func() error { return d.put(at(dead), "three") })
	d.reads(at(b), "three", false)
	d.must("start", a)
	d.shows(`3 of 3 nodes run`, ` running +leader `)
}

// leaderHangs pauses the leader and lets it go on, then stops it while it hangs.
func (d *devProcess) leaderHangs() {
	lead := d.leader()
	hung, a, b := ids(lead)
	d.must("pause", hung)
	d.shows(hung + ` +paused +- `)
	d.eventually("a write beside a paused leader", func() error { return d.put(at(a), "four") })
	d.reads(at(b), "four", false)
	d.refused("is paused", "start", hung)
	d.must("resume", hung)
	d.reads(lead, "four", false)
	d.must("pause", hung)
	d.must("stop", hung)
	d.shows(hung + ` +stopped +- `)
	d.must("start", hung)
}

// nodeEnds ends one that nobody told to end: it is told with its end and what to type, and the others go on.
func (d *devProcess) nodeEnds() {
	if err := syscall.Kill(d.info.Regions["us-east-1"].Nodes[1].PID, syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	d.shows(`n2 +ended +- `, `n2 ended by itself \(signal: killed\)`)
	d.eventually("to be told", func() error {
		for _, want := range []string{"n2 of us-east-1 ended by itself (signal: killed)", "start n2"} {
			if !strings.Contains(d.said(), want) {
				return fmt.Errorf("it did not say %q:\n%s", want, d.said())
			}
		}
		return nil
	})
	d.eventually("a write", func() error { return d.put(0, "five") })
	d.must("start", "n2")
	d.reads(1, "five", false)
	d.shows(`3 of 3 nodes run`)
}

// TestDevKilledBesidePausedNode kills `coffer dev` with a node that is paused and can't see it: nobody is left
// behind, what the dead one left is not mistaken for a running one, and it starts again. Nor do two of them share
// a directory.
func TestDevKilledBesidePausedNode(t *testing.T) {
	binary, err := testcluster.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "dev")
	d := startDev(t, binary, dir)
	if _, err := d.client(0).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("s"), SecretString: aws.String("one"),
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	second, err := exec.CommandContext(ctx, binary, "dev", "--port", "0", "--data", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(second), "another coffer dev runs") {
		t.Errorf("a second one in the same directory: %v\n%s", err, second)
	}
	d.shows(`The only node runs: reads and writes work`)

	d.must("pause", "n1")
	_ = d.cmd.Process.Kill()
	<-d.done
	d.childrenEnd()
	if _, err := os.Stat(filepath.Join(dir, controlSocket)); err != nil {
		t.Errorf("no socket was left, so that this test shows nothing: %v", err)
	}
	d.refused("no coffer dev runs", "status")
	d.refused("no coffer dev runs", "resume", "n1")
	d = startDev(t, binary, dir)
	d.reads(0, "one", false)
}

// TestDevGoesOnWithoutDamagedNode starts `coffer dev` over data of which one node's was found damaged: it says so and
// how to rebuild the node, and what it says works.
func TestDevGoesOnWithoutDamagedNode(t *testing.T) {
	binary, err := testcluster.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "dev")
	d := startDev(t, binary, dir, "--nodes", "3")
	if _, err := d.client(0).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("s"), SecretString: aws.String("one"),
	}); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.done
	data := d.info.Regions["us-east-1"].Nodes[0].Data
	if err := os.WriteFile(filepath.Join(data, "DAMAGED"), []byte("by this test"), 0o600); err != nil {
		t.Fatal(err)
	}

	d = startDev(t, binary, dir, "--nodes", "3")
	if said := d.said(); !strings.Contains(said, "n1 of us-east-1 ended by itself (exit status 3: its data is damaged)") {
		t.Errorf("it did not say that n1's data is damaged:\n%s", said)
	}
	d.shows(`n1 +ended +- `, `2 of 3 nodes run: reads and writes go on`)
	d.refused("mv "+data+" "+data+".damaged", "start", "n1")
	if err := os.Rename(data, data+".damaged"); err != nil {
		t.Fatal(err)
	}
	d.must("start", "n1")
	d.shows(`3 of 3 nodes run`)
	d.reads(0, "one", false)
}
