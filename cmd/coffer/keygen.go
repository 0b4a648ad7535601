package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"coffer/iam"
	"coffer/kms/rootkey"
	"coffer/secret"
)

func keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a region's root key, gossip key and root credentials",
	}
	var out, account string
	add := func(use, short string, generate func() ([]byte, error)) *cobra.Command {
		sub := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			b, err := generate()
			if err != nil {
				return err
			}
			return createPrivate(out, b)
		}}
		sub.Flags().StringVar(&out, "out", "", "file to create (mode 0600)")
		_ = sub.MarkFlagRequired("out")
		cmd.AddCommand(sub)
		return sub
	}
	add("root-key", "Make a root key; keep a copy of it apart from the cluster's backups", func() ([]byte, error) {
		return rootkey.Generate(), nil
	})
	add("gossip-key", "Make a gossip key", func() ([]byte, error) { return []byte(rand.Text() + rand.Text() + "\n"), nil })
	add("root-credentials", "Make the root credentials of an account", func() ([]byte, error) {
		if account == "" {
			account = iam.GenerateAccount()
		}
		if !secret.ValidAccount(account) {
			return nil, fmt.Errorf("account %q: wanted 12 digits", account)
		}
		return json.MarshalIndent(iam.GenerateCredentials(account), "", "  ")
	}).Flags().StringVar(&account, "account", "", "12-digit account id (default: drawn)")
	var shares, threshold int
	shamir := add("root-key-shares", "Make a root key as shares, one a line, that people keep apart (--root-key shamir)",
		func() ([]byte, error) {
			made, err := rootkey.Split(shares, threshold)
			var lines []byte
			for _, s := range made {
				lines = append(append(lines, s.String()...), '\n')
			}
			return lines, err
		})
	shamir.Flags().IntVar(&shares, "shares", 5, "how many shares to make")
	shamir.Flags().IntVar(&threshold, "threshold", 3, "how many of them give the key")
	cmd.AddCommand(deploymentCommand())
	return cmd
}

// deploymentCommand makes in one go what the other commands make one by one.
func deploymentCommand() *cobra.Command {
	var c devConfig
	cmd := &cobra.Command{
		Use:   "deployment",
		Short: "Make the keys, certificates and credentials of whole regions",
		Long: `Make the certificate authority, and the keys, certificates and credentials of regions
and their nodes, in a directory: what is there already stays. Give each node what
is its region's and its own, and keep the authority's key off the nodes.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := c.check(); err != nil {
				return err
			}
			_, err := c.prepare()
			return err
		},
	}
	cmd.Flags().StringVar(&c.dir, "out", "", "directory for everything")
	cmd.Flags().StringSliceVar(&c.regions, "region", []string{"us-east-1"}, "names of the regions")
	cmd.Flags().IntVar(&c.nodes, "nodes", 3, "number of nodes of each region")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

// createPrivate writes a new file that only its owner can read. It never overwrites one.
func createPrivate(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
