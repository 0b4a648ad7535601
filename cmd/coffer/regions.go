package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/replication"
	"coffer/replication/failover"
)

func regionsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "regions", Short: "Look at the regions and what is replicated between them"}
	operatorFlags(cmd.PersistentFlags())
	add := func(use, short string, args cobra.PositionalArgs, do func(*cobra.Command, *operator, []string) error) {
		cmd.AddCommand(&cobra.Command{Use: use, Short: short, Args: args, RunE: asOperator(do)})
	}
	add("list", "List the nodes of all regions", cobra.NoArgs, func(cmd *cobra.Command, op *operator, _ []string) error {
		status, err := op.Status(cmd.Context())
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "REGION\tNODE\tSTATE\tENDPOINT\tPEER")
		for _, r := range status.Others {
			for _, n := range r.Nodes {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.Region, n.ID,
					map[bool]string{true: "alive", false: "unreachable"}[n.Alive], n.Endpoint, n.Peer)
			}
		}
		return table.Flush()
	})
	add("status", "Print what this region replicates to the others, and they to it",
		cobra.NoArgs, func(cmd *cobra.Command, op *operator, _ []string) error {
			status, err := op.Status(cmd.Context())
			if err != nil {
				return err
			}
			return showRegions(cmd.OutOrStdout(), status)
		})
	add("rotate-key", "Give this region another key pair for what is sent to it",
		cobra.NoArgs, func(cmd *cobra.Command, op *operator, _ []string) error {
			return op.tell(cmd, http.MethodPost, "/regions/rotate-key", "the region's replication key is %s\n")
		})
	add("trust REGION", "Accept the replication key of a region that was formed anew",
		cobra.ExactArgs(1), func(cmd *cobra.Command, op *operator, args []string) error {
			return op.tell(cmd, http.MethodPost, "/regions/trust?region="+url.QueryEscape(args[0]), "the key %s is trusted\n")
		})
	return cmd
}

func showRegions(w io.Writer, s *replication.RegionStatus) error {
	fmt.Fprintf(w, "This is %s.\n\n", s.Region)
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tSTATE\tLINKS TO IT\tLAGGING\tREFUSED\tREPLICAS OF IT\tMAY BE TAKEN OVER BY")
	for _, r := range s.Others {
		if r.Region == s.Region && len(r.Successors) == 0 {
			continue
		}
		state := "reachable"
		switch {
		case r.Region == s.Region:
			state = "this one"
		case r.Down != 0:
			state = "down since " + when(r.Down) + ": " + r.Why
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", r.Region, state, r.Links, r.Lagging, r.Failed, r.Replicas,
			strings.Join(r.Successors, ", "))
	}
	return table.Flush()
}

func when(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339) }

// The operator's way to a region, as failover.Region.
var _ failover.Region = (*operator)(nil)

// Status is what the region knows of itself and the others.
func (o *operator) Status(ctx context.Context) (*replication.RegionStatus, error) {
	out := new(replication.RegionStatus)
	return out, o.getJSON(ctx, http.MethodGet, "/regions", out)
}

// List lists secrets of the region.
func (o *operator) List(ctx context.Context, sel *replication.Selection) (*replication.Page, error) {
	out := new(replication.Page)
	return out, o.postJSON(ctx, "/regions/list", sel, out)
}

// Carry has the region carry out a step.
func (o *operator) Carry(ctx context.Context, w *replication.Work) (*replication.Done, error) {
	out := new(replication.Done)
	return out, o.postJSON(ctx, "/regions/work", w, out)
}

// SetSuccessors says, in the region, which regions may take over secrets of another.
func (o *operator) SetSuccessors(ctx context.Context, region string, by []string) error {
	if by == nil {
		by = []string{}
	}
	return o.postJSON(ctx, "/regions/successors?region="+url.QueryEscape(region), by, &struct{}{})
}

// Reach says why the region does not reach another one; empty if it does.
func (o *operator) Reach(ctx context.Context, region string) (why string, err error) {
	return why, o.getJSON(ctx, http.MethodGet, "/regions/reach?region="+url.QueryEscape(region), &why)
}

// everyRegion finds a node that answers in each region that this operator's certificate is for.
func everyRegion(ctx context.Context, home *operator) (map[string]failover.Region, error) {
	status, err := home.Status(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]failover.Region{status.Region: home}
	var mu sync.Mutex // guards found
	var asking sync.WaitGroup
	for _, r := range status.Others {
		for _, n := range r.Nodes {
			if r.Region == status.Region {
				continue
			}
			asking.Go(func() {
				op := operatorOf(home.credentials, r.Region, n.Peer)
				ctx, cancel := context.WithTimeout(ctx, askTimeout)
				defer cancel()
				if _, err := op.Status(ctx); err == nil {
					mu.Lock()
					defer mu.Unlock()
					found[r.Region] = op
				}
			})
		}
	}
	asking.Wait()
	return found, nil
}

// askTimeout is how long a node of another region may take to answer before it is left out.
const askTimeout = 2 * time.Second

func names(regions map[string]failover.Region) string {
	return strings.Join(slices.Sorted(maps.Keys(regions)), ", ")
}
