package main

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coffer/secretsmanager"
)

func displacedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "displaced",
		Short: "See and restore secrets that replicas took the place of",
		Long: `A replica that was forced over a secret, or a region that was brought home, leaves what
was in its place restorable for 30 days.`,
	}
	operatorFlags(cmd.PersistentFlags())
	cmd.AddCommand(&cobra.Command{Use: "list", Short: "List the displaced secrets",
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			op, err := newOperator(cmd)
			if err != nil {
				return err
			}
			var all []secretsmanager.DisplacedSecret
			if err := op.getJSON(cmd.Context(), http.MethodGet, "/displaced", &all); err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(table, "ID\tNAME\tDISPLACED\tBY\tUNTIL\tVERSIONS")
			for _, d := range all {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", d.ID, d.Name, when(d.At), d.By, when(d.Until), d.Versions)
			}
			return table.Flush()
		}})
	var name string
	restore := &cobra.Command{
		Use: "restore ID", Short: "Bring a displaced secret back",
		Long: `Bring a displaced secret back under its name, which must be free again, or, with --name,
copy the versions of it that have labels to a new secret.`,
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			op, err := newOperator(cmd)
			if err != nil {
				return err
			}
			return op.tell(cmd, http.MethodPost, "/displaced/restore?id="+url.QueryEscape(args[0])+"&name="+
				url.QueryEscape(name), "restored as %s\n")
		},
	}
	restore.Flags().StringVar(&name, "name", "", "name of the new secret")
	cmd.AddCommand(restore)
	return cmd
}
