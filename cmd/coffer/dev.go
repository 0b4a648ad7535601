package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coffer/secret"
)

// devConfig is what `coffer dev` was asked for.
type devConfig struct {
	nodes    int
	port     int
	dir      string // absolute once complete was called
	regions  []string
	logLevel string
	self     string // how a person calls this program with what finds dir: "coffer dev --data DIR"
}

func devCommand() *cobra.Command {
	var c devConfig
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster on this machine, to try it",
		Long: `Run the clusters of one or more regions on loopback, with keys, certificates and
credentials made on the first start and used again after: secrets survive a restart.
It is the server that runs in production, started for you.

It runs until Ctrl-C, also when a node ends. With --nodes 3 you can meet failover, from
another terminal:

  coffer dev kill n1      # a crash; reads and writes go on with the others
  coffer dev status       # who runs, who leads, what works
  coffer dev start n1     # it comes back and catches up

Give these commands the same --data, if any. With several regions a node is REGION/NODE.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(c.check(), c.complete()); err != nil {
				return err
			}
			return runDev(cmd.Context(), cmd.OutOrStdout(), c)
		},
	}
	cmd.PersistentFlags().StringVar(&c.dir, "data", "",
		"directory for everything (default: coffer-dev in the user's state folder)")
	cmd.Flags().IntVar(&c.nodes, "nodes", 1, "number of nodes of each region")
	cmd.Flags().IntVar(&c.port, "port", 7400, "client port of the first node, the others follow; 0 picks free ones")
	cmd.Flags().StringSliceVar(&c.regions, "region", []string{"us-east-1"}, "names of the regions")
	cmd.Flags().StringVar(&c.logLevel, "log-level", "info", "of the nodes' log files: debug, info, warn or error")
	cmd.AddCommand(
		devStatusCommand(&c),
		devActCommand(&c, verbKill, "End a node at once, as a crash would"),
		devActCommand(&c, verbStop, "Stop a node in order, as for a restart"),
		devActCommand(&c, verbStart, "Start a node that does not run, at the address it had"),
		devActCommand(&c, verbPause, "Pause a node: it stays connected and does nothing, as a machine that hangs"),
		devActCommand(&c, verbResume, "Let a paused node go on"),
	)
	return cmd
}

// check says which of the names and numbers is wrong.
func (c *devConfig) check() error {
	switch {
	case c.nodes < 1 || c.nodes > 9:
		return fmt.Errorf("--nodes %d: wanted 1 to 9", c.nodes)
	case len(c.regions) == 0:
		return errors.New("--region is empty: wanted names such as us-east-1,eu-west-1")
	}
	for i, region := range c.regions {
		if !secret.ValidRegion(region) || slices.Contains(c.regions[:i], region) {
			return fmt.Errorf("--region %q: wanted different names such as us-east-1,eu-west-1",
				strings.Join(c.regions, ","))
		}
	}
	return nil
}

// complete finds the directory, and how a person names this program and it.
func (c *devConfig) complete() (err error) {
	c.self = selfName() + " dev"
	if c.dir == "" {
		c.dir, err = stateDir()
		return err
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	c.self += " --data " + shellQuote(c.dir)
	return nil
}

// selfName is what to type to run this program again.
func selfName() string {
	self, err := os.Executable()
	if err != nil {
		return "coffer"
	}
	if strings.Contains(self, string(filepath.Separator)+"go-build") { // built by `go run` for this run only
		return "go run ./cmd/coffer"
	}
	if found, err := exec.LookPath("coffer"); err == nil && found == self {
		return "coffer"
	}
	return shellQuote(os.Args[0])
}
