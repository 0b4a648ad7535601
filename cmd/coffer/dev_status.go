package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"coffer/cluster"
)

// nodeView is what `coffer dev` knows of a node at a moment.
type nodeView struct {
	*devServer
	state    nodeState
	ended    string // how, if it ended by itself
	endpoint string
	peer     string
	pid      int             // 0 unless it runs
	status   *cluster.Status // what the node says; nil if it did not answer
}

// look returns what is known of a node without asking it.
func (d *dev) look(p *devServer) nodeView {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := nodeView{devServer: p, state: p.state, endpoint: p.info.Endpoint, peer: p.info.Peer}
	switch p.state {
	case nodeRuns, nodePaused:
		v.pid = p.child.cmd.Process.Pid
	case nodeEnded:
		v.ended = p.child.reason()
	case "":
		v.state = "waiting"
	}
	return v
}

// viewTimeout bounds the questions to nodes of this machine. A node asks the others before it answers, and waits some
// seconds for one that hangs.
const viewTimeout = 6 * time.Second

// viewRegion asks all nodes of a region that run, all at once.
func (d *dev) viewRegion(ctx context.Context, region string) []nodeView {
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	var views []nodeView
	for _, p := range d.nodes {
		if p.region == region {
			views = append(views, d.look(p))
		}
	}
	var wg sync.WaitGroup
	for i := range views {
		if v := &views[i]; v.state == nodeRuns && v.peer != "" {
			wg.Go(func() { v.status = d.ask(ctx, v.peer, region) })
		}
	}
	wg.Wait()
	return views
}

// ask returns what the node at a peer port says of its cluster, or nil.
func (d *dev) ask(ctx context.Context, peer, region string) *cluster.Status {
	op := operatorOf(d.operator, region, peer)
	defer op.client.CloseIdleConnections()
	var s cluster.Status
	if err := op.getJSON(ctx, http.MethodGet, "/status", &s); err != nil {
		return nil
	}
	return &s
}

func (v *nodeView) leads() bool { return v.status != nil && v.status.State == "leader" }

// ready says whether the node serves reads and writes, as far as it knows.
func (v *nodeView) ready() bool { return v.status != nil && v.status.Ready == "" }

// leader returns the node that leads. A deposed leader that does not know it yet has a lower term.
func leader(views []nodeView) *devServer {
	var found *nodeView
	for i := range views {
		if v := &views[i]; v.leads() && (found == nil || v.status.Term > found.status.Term) {
			found = v
		}
	}
	if found == nil {
		return nil
	}
	return found.devServer
}

// voters counts the region's voters, and those of them that run here.
func voters(views []nodeView) (all, running int) {
	names := map[string]bool{}
	for _, v := range views {
		names[v.id] = true
	}
	for _, v := range views {
		// Whoever has a vote is what the cluster says: a node may have been removed, or never have joined.
		if v.status == nil || len(v.status.Members) == 0 {
			continue
		}
		clear(names)
		for _, m := range v.status.Members {
			names[m.ID] = m.Voter
		}
		if v.leads() {
			break
		}
	}
	runs := map[string]bool{}
	for _, v := range views {
		runs[v.id] = v.state == nodeRuns
	}
	for id, votes := range names {
		if votes {
			all++
			if runs[id] {
				running++
			}
		}
	}
	return all, running
}

func runningNames(views []nodeView) (names []string) {
	for _, v := range views {
		if v.state == nodeRuns {
			names = append(names, v.id)
		}
	}
	return names
}

// settled says whether the region will not get better by waiting: there is no majority, or all that run are ready.
func settled(views []nodeView) bool {
	if all, running := voters(views); running <= all/2 {
		return true
	}
	return leader(views) != nil && !slices.ContainsFunc(views, func(v nodeView) bool {
		return v.state == nodeRuns && !v.ready()
	})
}

// outlook says in a sentence what a region can do now, and what one more failure would change.
func outlook(views []nodeView) string {
	all, running := voters(views)
	of := fmt.Sprintf("%d of %d nodes run", running, all)
	switch {
	case all == 1:
		of = "The only node runs"
	case running == 1:
		of = fmt.Sprintf("1 of %d nodes runs", all)
	}
	up := runningNames(views)
	spare := running - (all/2 + 1)
	switch {
	case len(up) == 0:
		return "No node of the region runs: nothing is answered."
	case spare < 0:
		return fmt.Sprintf("%s, which is no majority: writes are refused. Reads go on at %s from what it has, and say so "+
			"(X-Coffer-Stale).", of, strings.Join(up, ", "))
	case leader(views) == nil:
		return of + ", which is a majority, but none leads yet."
	case all == 1:
		return of + ": reads and writes work. There is no other to take over: `--nodes 3` starts three."
	case spare == 0:
		return of + ": reads and writes go on. One more failure and writes are refused; reads go on even then."
	}
	return fmt.Sprintf("%s: reads and writes go on. %d may fail, and they still do.", of, spare)
}

// showStatus writes a table of all nodes, and the outlook of each region.
func (d *dev) showStatus(ctx context.Context, w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tNODE\tSTATE\tROLE\tENDPOINT\tPID")
	var outlooks []string
	for _, region := range d.config.regions {
		views := d.viewRegion(ctx, region)
		for _, v := range views {
			pid := "-"
			if v.pid != 0 {
				pid = fmt.Sprint(v.pid)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", region, v.id, v.state, v.role(), v.endpoint, pid)
		}
		outlooks = append(outlooks, region+": "+outlook(views))
		for _, v := range views {
			switch {
			case v.ended != "":
				outlooks = append(outlooks, fmt.Sprintf("%s: %s ended by itself (%s); its log is %s", region, v.id, v.ended, v.log))
			case v.status != nil && v.status.Ready != "":
				outlooks = append(outlooks, fmt.Sprintf("%s: %s is not ready: %s", region, v.id, v.status.Ready))
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(outlooks, "\n"))
	return err
}

// role is what the node is in Raft.
func (v *nodeView) role() string {
	switch {
	case v.state != nodeRuns:
		return "-"
	case v.status == nil:
		return "no answer"
	case v.status.State == "follower" && slices.ContainsFunc(v.status.Members, func(m cluster.Member) bool {
		return m.ID == v.id && !m.Voter
	}):
		return "learner"
	}
	return v.status.State
}
