package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"coffer/kms/rootkey"
	"coffer/node"
)

func unsealCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unseal",
		Short: "Give a node a share of the root key",
		Long: `Give a node one share of a root key that people hold shares of (--root-key shamir).

The share is asked for on the terminal, which does not show it, or read as a line
from standard input where that is no terminal. It is never an argument. Each node
needs as many shares as were said to be needed when they were made.`,
		Args: cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, op *operator, _ []string) error {
			share, err := readShare(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer clear(share)
			if _, err := rootkey.ParseShare(string(share)); err != nil {
				return err
			}
			var s node.SealStatus
			if err := op.postJSON(cmd.Context(), "/unseal", string(bytes.TrimSpace(share)), &s); err != nil {
				return err
			}
			switch {
			case s.Shares < s.Threshold:
				fmt.Fprintf(cmd.OutOrStdout(), "%s has %d of %d shares\n", s.Node, s.Shares, s.Threshold)
			case s.Sealed != "":
				fmt.Fprintf(cmd.OutOrStdout(), "%s has the root key of these shares, and is %s\n", s.Node, s.Sealed)
			default:
				fmt.Fprintf(cmd.OutOrStdout(), "%s is unsealed\n", s.Node)
			}
			return nil
		}),
	}
	operatorFlags(cmd.Flags())
	return cmd
}

func readShare(in io.Reader, prompt io.Writer) ([]byte, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(prompt, "Share: ")
		share, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(prompt)
		return share, err
	}
	share, err := bufio.NewReader(in).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return share, err
}

func rootkeyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rootkey", Short: "Look at a region's root key and rotate it"}
	operatorFlags(cmd.PersistentFlags())
	cmd.AddCommand(&cobra.Command{
		Use: "status", Short: "Print what a node has of the root key, as JSON", Args: cobra.NoArgs,
		RunE: printed(http.MethodGet, "/rootkey", showJSON),
	})
	var force bool
	rotate := &cobra.Command{
		Use:   "rotate ROOT-KEY",
		Short: "Put the region's KMS keys under another root key, while it serves",
		Long: `Put the region's KMS keys under another root key, while it serves.

ROOT-KEY is ` + rootkey.Schemes + `;
shamir:ID names one whose shares the nodes were given by coffer unseal. Each node
must reach it at the same name, which is that of --root-key with another number behind
it (root-key-2), or its --root-key-next. A node that is down learns of the rotation when it
is back. Set the new root key in every node's configuration afterwards, and keep the
old one as long as you keep snapshots made before.`,
		Args: cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, op *operator, args []string) error {
			query := url.Values{"to": args, "force": {fmt.Sprint(force)}}
			var done node.RootRotation
			if err := op.getJSON(cmd.Context(), http.MethodPost, "/rootkey/rotate?"+query.Encode(), &done); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d keys are under the root key %s\n", done.Keys, done.RootKeyID)
			for id, why := range done.Without {
				fmt.Fprintf(cmd.OutOrStdout(), "without it: %s: %s\n", id, why)
			}
			return nil
		}),
	}
	rotate.Flags().BoolVar(&force, "force", false,
		"even if a node answers that it can't reach the root key; that node is sealed then")
	cmd.AddCommand(rotate)
	return cmd
}
