package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coffer/secret"
)

// devConfig is what `coffer dev` was asked for.
type devConfig struct {
	nodes    int
	port     int
	dir      string
	regions  []string
	logLevel string
}

func devCommand() *cobra.Command {
	var c devConfig
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a cluster on this machine, to try it",
		Long: `Run the clusters of one or more regions on loopback, with keys, certificates and
credentials made on the first start and used again after: secrets survive a restart.
It is the server that runs in production, started for you.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd.Context(), cmd.OutOrStdout(), c) },
	}
	cmd.Flags().IntVar(&c.nodes, "nodes", 1, "number of nodes of each region")
	cmd.Flags().IntVar(&c.port, "port", 7400, "client port of the first node, the others follow; 0 picks free ones")
	cmd.Flags().StringVar(&c.dir, "data", "", "directory for everything (default: coffer-dev in the user's state folder)")
	cmd.Flags().StringSliceVar(&c.regions, "region", []string{"us-east-1"}, "names of the regions")
	cmd.Flags().StringVar(&c.logLevel, "log-level", "info", "of the nodes' log files: debug, info, warn or error")
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
			return fmt.Errorf("--region %q: wanted different names such as us-east-1,eu-west-1", strings.Join(c.regions, ","))
		}
	}
	return nil
}
