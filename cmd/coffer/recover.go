package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coffer/cluster"
	"coffer/node"
)

type recoverOptions struct {
	serverOptions `mapstructure:",squash"`
	Inspect       bool `mapstructure:"inspect"`
	Yes           bool `mapstructure:"yes"`
	Force         bool `mapstructure:"force"`
}

func recoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover --data DIR (--inspect | --yes)",
		Short: "Make a stopped node the whole region, when a majority is lost for good",
		Long: `Make a stopped node the only voter of a new cluster of its region, with all that it has.
It is for a region whose majority of voters is lost for good: while a majority can come
back, bring it back. It is given what ` + "`coffer server`" + ` is given.

First look at what each survivor has, with --inspect, and take the one with the highest
last entry, by term and then by index. What a majority acknowledged without this node is
lost, and entries that were never acknowledged may come alive.

Afterwards start the node: it takes writes alone. Empty the data directories of all other
nodes, survivors too, before they are started again: they join and get everything from it.
Until a node's directory is emptied it and the new cluster refuse each other.

If it is interrupted, the node does not start; run it again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var o recoverOptions
			if err := loadConfig(cmd, &o); err != nil {
				return err
			}
			if o.Inspect == o.Yes {
				return errors.New("give either --inspect, to see what this node has, or --yes, to make it the region")
			}
			return runRecover(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	serverFlags(cmd.Flags())
	cmd.Flags().Bool("inspect", false, "say what this node has, and change nothing")
	cmd.Flags().Bool("yes", false, "make it the region")
	cmd.Flags().Bool("force", false, "do it though a former member runs, which then has to be emptied")
	return cmd
}

func runRecover(ctx context.Context, w io.Writer, o recoverOptions) (err error) {
	log, flush, err := newLogger("warn", o.LogFormat)
	if err != nil {
		return err
	}
	defer flush()
	s, err := node.OpenSurvivor(o.Config, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := describeRemains(w, s.Remains()); err != nil || o.Inspect {
		return err
	}
	if running := s.Answering(ctx); len(running) > 0 && !o.Force {
		return fmt.Errorf("%s of this cluster run, with data: bring the others back if a majority can come back. If not,"+
			" stop them, and recover the one that has most (--inspect)", strings.Join(running, ", "))
	}
	id, err := s.Recover()
	if err != nil {
		return fmt.Errorf("the node is not recovered: remove the cause and run this again: %w", err)
	}
	_, err = fmt.Fprintf(w, "\nThis node is cluster %s now, alone. Start it, then empty the data directories of the other"+
		" nodes and start them.\n", id)
	return err
}

func describeRemains(w io.Writer, r cluster.Remains) error {
	var members []string
	for _, m := range r.Members {
		if m.Voter {
			members = append(members, m.ID)
		} else {
			members = append(members, m.ID+" (no vote)")
		}
	}
	written := "in the state"
	if !r.Written.IsZero() {
		written = "written by a leader at " + r.Written.UTC().Format(time.RFC3339)
	}
	confirmed := "unknown"
	if r.Confirmed.Unix() > 0 {
		confirmed = r.Confirmed.UTC().Format(time.RFC3339)
	}
	_, err := fmt.Fprintf(w, `node            %s
cluster         %s
members         %s
last entry      term %d, index %d, %s
leader          last confirmed this node's state: %s
acknowledged    at least up to index %d
may be missing  what the others acknowledged after this node's last entry
may come alive  entries after index %d that nobody acknowledged: their writers were told nothing, or an error
`, r.Node, r.Cluster, strings.Join(members, ", "), r.Term, r.Index, written, confirmed, r.Committed, r.Committed)
	if err == nil && r.Restoring {
		_, err = fmt.Fprintln(w,
			"restored        an archive, perhaps, whose restore was not finished: the others may lack it")
	}
	if err == nil && r.Interrupted {
		_, err = fmt.Fprintln(w, "interrupted     a recovery of this node began and did not end: run it again")
	}
	return err
}
