package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coffer/cluster"
)

func clusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Look at a region's cluster and change its members",
	}
	operatorFlags(cmd.PersistentFlags())
	cmd.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Print what a node says of itself and its cluster, as JSON", Args: cobra.NoArgs,
			RunE: printed(http.MethodGet, "/status", showJSON),
		},
		&cobra.Command{
			Use: "members", Short: "List the nodes of the region", Args: cobra.NoArgs,
			RunE: printed(http.MethodGet, "/status", showMembers),
		},
		removeCommand(),
		&cobra.Command{
			Use: "transfer-leader [ID]", Short: "Hand leadership to a node, or to any other", Args: cobra.MaximumNArgs(1),
			RunE: asOperator(func(cmd *cobra.Command, op *operator, args []string) error {
				return op.order(cmd.Context(), "/transfer-leader", url.Values{"to": args})
			}),
		},
		&cobra.Command{
			Use:   "raise-format FORMAT",
			Short: "Raise the format of the state, once every node reads it: there is no way back",
			Args:  cobra.ExactArgs(1),
			RunE: asOperator(func(cmd *cobra.Command, op *operator, args []string) error {
				return op.order(cmd.Context(), "/raise-format", url.Values{"to": args})
			}),
		},
		&cobra.Command{
			Use: "verify", Short: "Compare the nodes' states now, as the leader does every minute", Args: cobra.NoArgs,
			RunE: printed(http.MethodPost, "/verify", showVerified),
		},
		&cobra.Command{
			Use: "confirm-clock", Short: "Say that a node's clock is right, after it jumped", Args: cobra.NoArgs,
			RunE: printed(http.MethodPost, "/confirm-clock", showJSON),
		},
		recoverCommand(),
	)
	return cmd
}

func removeCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a node that will not return, or is to be replaced",
		Long: `Remove a node that will not return, or is to be replaced.

It is refused unless a majority of the voters that remains follows the leader. With
--force it is done all the same: if those that do not follow never come back, the
region can't take a write any more, nor a change of its members, and has to be
recovered or restored from an archive.`,
		Args: cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, op *operator, args []string) error {
			return op.order(cmd.Context(), "/remove", url.Values{"id": args, "force": {strconv.FormatBool(force)}})
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove it even if the nodes that remain may not be able to go on")
	return cmd
}

func showJSON(w io.Writer, answer json.RawMessage) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(answer)
}

func showVerified(w io.Writer, report cluster.DigestReport) error {
	for id, digest := range report.Digests {
		fmt.Fprintf(w, "%s\t%s\n", id, digest)
	}
	if report.Unclear || len(report.Differ) > 0 {
		return errors.New("the nodes' states differ")
	}
	fmt.Fprintf(w, "all nodes that answered have the same state at entry %d\n", report.Index)
	return nil
}

func showMembers(w io.Writer, s cluster.Status) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tROLE\tSTATE\tENDPOINT\tPEER")
	for _, m := range s.Members {
		role, state := "learner", "unreachable"
		switch {
		case m.Leader:
			role = "leader"
		case m.Voter:
			role = "follower"
		case m.NonVoter:
			role = "non-voter"
		}
		if m.Alive {
			state = "alive"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", m.ID, role, state, m.Endpoint, m.Peer)
	}
	return table.Flush()
}
