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
	call := func(use, short, method string, args cobra.PositionalArgs, path func([]string) string, show func(io.Writer, io.Reader) error) *cobra.Command {
		sub := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
			op, err := newOperator(cmd)
			if err != nil {
				return err
			}
			resp, err := op.do(cmd.Context(), method, path(args), nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return show(cmd.OutOrStdout(), resp.Body)
		}}
		cmd.AddCommand(sub)
		return sub
	}
	fixed := func(path string) func([]string) string { return func([]string) string { return path } }
	call("status", "Print what a node says of itself and its cluster, as JSON", http.MethodGet, cobra.NoArgs, fixed("/status"), showJSON)
	call("members", "List the nodes of the region", http.MethodGet, cobra.NoArgs, fixed("/status"), showMembers)
	force := false
	remove := call("remove ID", "Remove a node that will not return, or is to be replaced", http.MethodPost, cobra.ExactArgs(1),
		func(args []string) string {
			return "/remove?id=" + url.QueryEscape(args[0]) + "&force=" + strconv.FormatBool(force)
		}, showNothing)
	remove.Long = `Remove a node that will not return, or is to be replaced.

It is refused unless a majority of the voters that remain follows the leader. With
--force it is done all the same: if those that do not follow never come back, the
region can't take a write any more, nor a change of its members, and has to be
recovered or restored from an archive.`
	remove.Flags().BoolVar(&force, "force", false, "remove it even if the nodes that remain may not be able to go on")
	call("transfer-leader [ID]", "Hand leadership to a node, or to any other", http.MethodPost, cobra.MaximumNArgs(1),
		func(args []string) string {
			if len(args) == 0 {
				return "/transfer-leader"
			}
			return "/transfer-leader?to=" + url.QueryEscape(args[0])
		}, showNothing)
	call("raise-format FORMAT", "Raise the format of the state, once every node reads it: there is no way back", http.MethodPost, cobra.ExactArgs(1),
		func(args []string) string { return "/raise-format?to=" + url.QueryEscape(args[0]) }, showNothing)
	call("verify", "Compare the nodes' states now, as the leader does every minute", http.MethodPost, cobra.NoArgs, fixed("/verify"), showVerified)
	return cmd
}

func showNothing(io.Writer, io.Reader) error { return nil }

func showJSON(w io.Writer, r io.Reader) error {
	var v any
	if err := json.NewDecoder(r).Decode(&v); err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func showVerified(w io.Writer, r io.Reader) error {
	var report cluster.DigestReport
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		return err
	}
	for id, digest := range report.Digests {
		fmt.Fprintf(w, "%s\t%s\n", id, digest)
	}
	if report.Unclear || len(report.Differ) > 0 {
		return errors.New("the nodes' states differ")
	}
	fmt.Fprintf(w, "all nodes that answered have the same state at entry %d\n", report.Index)
	return nil
}

func showMembers(w io.Writer, r io.Reader) error {
	var s cluster.Status
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
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
