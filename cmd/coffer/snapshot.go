package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"coffer/fsm"
)

func snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save, inspect and restore a region's state",
		Long: `A snapshot holds a region's whole state. Values in it stay encrypted: to use it,
the region's root key is needed, which is not in it.`,
	}
	save := &cobra.Command{
		Use: "save FILE", Short: "Save a snapshot while the cluster goes on working",
		Args: cobra.ExactArgs(1), RunE: saveSnapshot,
	}
	inspect := &cobra.Command{
		Use: "inspect FILE", Short: "Verify a snapshot and say what is in it",
		Args: cobra.ExactArgs(1), RunE: inspectSnapshot,
	}
	restore := &cobra.Command{
		Use: "restore FILE", Short: "Replace the region's state by a snapshot's",
		Args: cobra.ExactArgs(1), RunE: restoreSnapshot,
	}
	save.Flags().Bool("stale", false,
		"save what the node has, and how old it may be, where no leader confirms that it is the latest")
	operatorFlags(save.Flags())
	operatorFlags(restore.Flags())
	cmd.AddCommand(save, inspect, restore)
	return cmd
}

func saveSnapshot(cmd *cobra.Command, args []string) error {
	op, err := newOperator(cmd)
	if err != nil {
		return err
	}
	path := "/snapshot"
	if stale, _ := cmd.Flags().GetBool("stale"); stale {
		path += "?stale=true"
	}
	resp, err := op.do(cmd.Context(), http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	var sum fsm.Summary
	if err == nil {
		sum, err = fsm.ReadSnapshot(f)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("the snapshot was not saved: %w", err), os.Remove(args[0]))
	}
	return describe(cmd.OutOrStdout(), sum)
}

func inspectSnapshot(cmd *cobra.Command, args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := fsm.ReadSnapshot(f)
	if err != nil {
		return err
	}
	return describe(cmd.OutOrStdout(), sum)
}

func describe(w io.Writer, s fsm.Summary) error {
	_, err := fmt.Fprintf(w,
		"region    %s\naccount   %s\ncluster   %s, formed %s\nroot key  %s\nentry     %d of term %d\nsecrets   %d, with "+
			"%d values\nrows      %d, %d bytes\ndigest    %016x\n",
		s.Cluster.Region, s.Cluster.Account, s.Cluster.ID, time.UnixMilli(s.Cluster.Created).UTC().Format(time.RFC3339),
		s.Cluster.RootKeyID, s.Index, s.Term, s.Secrets, s.Values, s.Rows, s.Bytes, s.Digest)
	if err == nil && s.Age > 0 {
		_, err = fmt.Fprintf(w, "stale     no leader confirmed it: it may lack what was acknowledged in the last %s "+
			"before it was saved\n", s.Age.Round(time.Second))
	}
	return err
}

func restoreSnapshot(cmd *cobra.Command, args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := fsm.ReadSnapshot(f)
	if err != nil {
		return err
	}
	op, err := newOperator(cmd)
	if err != nil {
		return err
	}
	resp, err := op.do(cmd.Context(), http.MethodPost, "/restore", func() (io.ReadCloser, error) {
		return os.Open(args[0])
	})
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored %d secrets of region %s\n", sum.Secrets, sum.Cluster.Region)
	return err
}
