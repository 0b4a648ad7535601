package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coffer/cluster"
	"coffer/cluster/clocks"
	"coffer/damage"
	"coffer/httpapi"
	"coffer/kms/rootkey"
	"coffer/node"
)

// The exit codes of a node that ends at once: its disk does not take writes as it should, or its data is damaged. The
// latter is also that of a start with such data.
const (
	exitDisk    = 1
	exitDamaged = 3
)

type serverOptions struct {
	node.Config    `mapstructure:",squash"`
	LogLevel       string `mapstructure:"log-level"`
	LogFormat      string `mapstructure:"log-format"`
	StopWithParent bool   `mapstructure:"stop-with-parent"`
}

func serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run one node of a cluster",
		Long: `Run one node of a region's cluster.

Everything can be set by a flag, by a variable (--root-key is COFFER_ROOT_KEY) or
in the YAML file that --config names (root-key: …), in this order of precedence.

A new cluster forms when --bootstrap-expect nodes have found each other; a node
that returns with its data rejoins; a new one catches up and then gets a vote.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var o serverOptions
			if err := loadConfig(cmd, &o); err != nil {
				return err
			}
			return runServer(cmd.Context(), o)
		},
	}
	serverFlags(cmd.Flags())
	return cmd
}

func serverFlags(f *pflag.FlagSet) {
	f.String("config", "", "YAML file with any of these settings")
	f.String("data", "", "data directory")
	f.String("ca", "", "certificate authorities of the cluster (PEM), one or, while they change, several")
	f.String("cert", "", "this node's certificate (PEM); it names node and region")
	f.String("key", "", "this node's private key (PEM, mode 0600)")
	f.String("revoked", "", "list of revoked certificates (coffer pki revoke), read again when it changes")
	f.String("listen", "127.0.0.1:7400", "client port")
	f.String("endpoint", "", "URL that clients reach this node by (default: of --listen)")
	f.String("tls-cert", "", "certificate of the client port (PEM), read again when it changes")
	f.String("tls-key", "", "private key of the client port (PEM)")
	f.Bool("insecure-http", false, "allow plain HTTP on a client port beyond loopback")
	limits := httpapi.DefaultLimits
	f.Int("client-connections", limits.Connections, "open connections of clients at a time; more are closed as they come")
	f.Int("client-connections-per-address", limits.ConnectionsPerAddress, "of one address (IPv6: /64)")
	f.Int("client-memory", int(limits.Bytes>>20), "MiB of clients' bodies and answers in memory; more get 503")
	f.Int("client-memory-per-address", int(limits.BytesPerAddress>>20), "MiB of one address")
	f.String("peer", "127.0.0.1:7401", "peer port, for other nodes and operators (mutual TLS)")
	f.String("peer-advertise", "", "host:port that others reach the peer port by (default: --peer)")
	f.String("gossip", "127.0.0.1:7402", "gossip port (TCP and UDP)")
	f.String("gossip-advertise", "", "host:port that others reach the gossip port by (default: --gossip)")
	f.String("gossip-key", "", "file with the region's gossip keys, one a line, the first is used (mode 0600)")
	f.Duration("max-clock-offset", clocks.DefaultBound, "how far clocks may be apart for purges and the deletion of keys")
	f.StringSlice("join", nil, "gossip addresses of other nodes")
	f.Int("bootstrap-expect", 0, "number of nodes that form a new cluster; 0 only joins one")
	f.Duration("election-timeout", cluster.DefaultElectionTimeout,
		"how long to wait for a word of the leader; the same on all nodes of a region")
	f.Bool("non-voter", false, "never vote: a node that answers reads and counts for nothing")
	f.String("remove-dead-after", "auto",
		"remove servers that have not answered the leader for so long (24h, for instance);\noff never; auto after 24h in "+
			"regions of at least five voters")
	f.StringSlice("skip-entry", nil, "INDEX:CHECKSUM of a log entry that can't be applied and is given up, on every node")
	f.String("region-gossip", "", "gossip port for nodes of all regions (TCP and UDP); empty for a region alone")
	f.String("region-gossip-advertise", "",
		"host:port that other regions reach that gossip port by (default: --region-gossip)")
	f.String("region-gossip-key", "", "file with the gossip keys that all regions share (mode 0600)")
	f.StringSlice("region-join", nil, "gossip addresses of nodes of other regions")
	f.String("region-peer-advertise", "", "host:port that other regions reach it by (default: --peer-advertise)")
	f.String("root-key", "", "the region's root key: "+rootkey.Schemes)
	f.String("root-key-next", "", "another one that the region may be rotated to, besides --root-key with another number")
	f.String("root-credentials", "", "file with the account's root credentials (mode 0600)")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "json", "json or text")
	f.Bool("stop-with-parent", false, "stop when standard input ends")
	_ = f.MarkHidden("stop-with-parent")
}

func runServer(ctx context.Context, o serverOptions) error {
	log, flush, err := newLogger(o.LogLevel, o.LogFormat)
	if err != nil {
		return err
	}
	defer flush()
	tuneMemory()
	if err := noCoreDumps(); err != nil {
		return fmt.Errorf("turn off core dumps, which would hold keys: %w", err)
	}
	if o.StopWithParent {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent does, however it ends
			cancel()
		}()
	}
	for {
		n, err := node.Start(o.Config, node.Options{
			Log: log, Now: time.Now, Version: version, Die: func(err error) { die(log, err) },
		})
		if err != nil {
			return err
		}
		if err := n.Run(ctx); !errors.Is(err, node.ErrRebuild) {
			return err
		}
	}
}

// die ends the process at once.
func die(log *slog.Logger, err error) {
	code, why := exitDisk, "this node stops, since its disk does not take writes: look at the disk, then start it again"
	if errors.Is(err, damage.Err) {
		code, why = exitDamaged, "this node stops, since its data is damaged"
	}
	time.AfterFunc(time.Second, func() { os.Exit(code) }) // the log may be on the disk that hangs
	log.Error(why, "error", err)
	os.Exit(code)
}
