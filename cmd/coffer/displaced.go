package main

import (
	"fmt"
	"io"
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
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the displaced secrets", Args: cobra.NoArgs,
		RunE: printed(http.MethodGet, "/displaced", showDisplaced),
	})
	var name string
	restore := &cobra.Command{
		Use: "restore ID", Short: "Bring a displaced secret back",
		Long: `Bring a displaced secret back under its name, which must be free again, or, with --name,
copy the versions of it that have labels to a new secret.`,
		Args: cobra.ExactArgs(1), RunE: asOperator(func(cmd *cobra.Command, op *operator, args []string) error {
			query := url.Values{"id": args, "name": {name}}
			return op.tell(cmd, http.MethodPost, "/displaced/restore?"+query.Encode(), "restored as %s\n")
		}),
	}
	restore.Flags().StringVar(&name, "name", "", "name of the new secret")
	cmd.AddCommand(restore)
	return cmd
}

func showDisplaced(w io.Writer, all []secretsmanager.DisplacedSecret) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tDISPLACED\tBY\tUNTIL\tVERSIONS")
	for _, d := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", d.ID, d.Name, when(d.At), d.By, when(d.Until), d.Versions)
	}
	return table.Flush()
}
