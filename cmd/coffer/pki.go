package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coffer/cluster/pki"
)

func pkiCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "Make the cluster's certificate authority and certificates",
		Long: `Make the certificates of the peer ports. One authority stands for one cluster; a
certificate says which node of which region its holder is, or which operator.
Keep the authority's key off the nodes.`,
	}
	var caDir, out string
	var regions []string
	ca := &cobra.Command{Use: "ca", Short: "Make a certificate authority",
		Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			return pki.CreateAuthority(out, time.Now())
		}}
	ca.Flags().StringVar(&out, "out", "", "directory for "+pki.CAFile+" and "+pki.CAKey)
	_ = ca.MarkFlagRequired("out")
	cmd.AddCommand(ca)
	for _, role := range []pki.Role{pki.Node, pki.Operator} {
		sub := &cobra.Command{
			Use: string(role) + " ID",
			Short: fmt.Sprintf("Make the certificate of %s %s", map[pki.Role]string{pki.Node: "a", pki.Operator: "an"}[role],
				role),
			Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				if len(regions) == 0 {
					return errors.New("--region is empty: wanted a name such as us-east-1")
				}
				return pki.Issue(caDir, out, pki.Identity{Role: role, Region: regions[0], ID: args[0]}, time.Now(), regions[1:]...)
			},
		}
		sub.Flags().StringVar(&caDir, "ca", "", "directory of the certificate authority")
		sub.Flags().StringSliceVar(&regions, "region", []string{"us-east-1"},
			map[pki.Role]string{pki.Node: "region", pki.Operator: "regions"}[role])
		sub.Flags().StringVar(&out, "out", "", "directory for "+pki.CertFile+", "+pki.KeyFile+" and "+pki.CAFile)
		_ = sub.MarkFlagRequired("ca")
		_ = sub.MarkFlagRequired("out")
		cmd.AddCommand(sub)
	}
	cmd.AddCommand(revokeCommand())
	return cmd
}

func revokeCommand() *cobra.Command {
	var list, region string
	cmd := &cobra.Command{
		Use:   "revoke ROLE ID",
		Short: "Add to a list that the certificates of a node or an operator do not count any more",
		Long: `Add to a list that the certificates which a node or an operator has until now do
not count any more. Give the list to every node (--revoked), of every region: each reads it
again when it changes and ends connections. A certificate that is made later counts.`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return pki.Revoke(list, pki.Identity{Role: pki.Role(args[0]), Region: region, ID: args[1]}, time.Now())
		},
	}
	cmd.Flags().StringVar(&list, "list", "", "file with the list; it is made if there is none")
	cmd.Flags().StringVar(&region, "region", "us-east-1", "region of the certificate")
	_ = cmd.MarkFlagRequired("list")
	return cmd
}
