package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coffer/secretsmanager"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "See what depends on which key material, and bring it to the current one"}
	operatorFlags(cmd.PersistentFlags())
	cmd.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Count the versions of secrets by the key material that they depend on",
			Args: cobra.NoArgs, RunE: printed(http.MethodGet, "/keys", showKeys),
		},
		&cobra.Command{
			Use:   "rewrap",
			Short: "Bring all data keys to the current material of their keys",
			Long: `Bring all data keys of secrets to the current material of their KMS keys, while the
region serves. It prints its progress. Interrupted, it can be started again: what was
done stays done.`,
			Args: cobra.NoArgs, RunE: asOperator(keysRewrap),
		},
	)
	return cmd
}

func showKeys(w io.Writer, uses []secretsmanager.KeyUse) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ACCOUNT\tKEY\tSTATE\tGENERATION\tVERSIONS")
	for _, u := range uses {
		state, generation := string(u.State), fmt.Sprint(u.Generation)
		if state == "" {
			state = "deleted"
		}
		if u.Current {
			generation += " (current)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\n", u.Account, u.KeyID, state, generation, u.Versions)
	}
	return table.Flush()
}

func keysRewrap(cmd *cobra.Command, op *operator, _ []string) error {
	var position []byte
	seen, rewrapped, failed := 0, 0, 0
	for {
		var p secretsmanager.RewrapProgress
		if err := op.postJSON(cmd.Context(), "/keys/rewrap", position, &p); err != nil {
			return err
		}
		seen, rewrapped, failed = seen+p.Seen, rewrapped+p.Rewrapped, failed+p.Failed
		fmt.Fprintf(cmd.OutOrStdout(), "%d versions looked at, %d rewrapped, %d under keys that can't be used now\n",
			seen, rewrapped, failed)
		if len(p.Next) == 0 {
			return nil
		}
		position = p.Next
	}
}
