// Command coffer is a self-hosted secrets manager that AWS Secrets Manager clients can use.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"coffer/damage"
)

// version is set at release builds (-ldflags "-X main.version=…").
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "coffer:", err)
		if errors.Is(err, damage.Err) {
			os.Exit(exitDamaged)
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "coffer",
		Short: "A self-hosted secrets manager for AWS Secrets Manager clients",
		Long: `Coffer keeps secrets in a Raft cluster in each of your regions and speaks the
AWS Secrets Manager API, so that the AWS CLI and SDKs use it unchanged.

Try it on this machine:       coffer dev
Run a node of a real cluster: coffer server --config node.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(devCommand(), serverCommand(), pkiCommand(), keygenCommand(), clusterCommand(), snapshotCommand(),
		regionsCommand(), regionCommand(), displacedCommand(), keysCommand(), rootkeyCommand(), unsealCommand(),
		healthcheckCommand(), versionCommand())
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			build := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				build = " " + info.GoVersion
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						build += " " + s.Value
					}
				}
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "coffer "+version+build)
			return err
		},
	}
}
