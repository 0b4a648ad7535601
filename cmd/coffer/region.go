package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coffer/replication/failover"
)

func regionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "region",
		Short: "Move secrets' primary role between regions",
		Long: `Move secrets' primary role between regions: when one is lost, when it has returned, or
as planned. --node is a node of the region that the command runs in. The operator's
certificate must be for all regions that take part (coffer pki operator --region a,b).

Each command can be interrupted and started again: what was done stays done.`,
	}
	operatorFlags(cmd.PersistentFlags())
	var prefix string
	cmd.PersistentFlags().StringVar(&prefix, "prefix", "", "only secrets whose names begin with it")
	mover := func(cmd *cobra.Command) (*failover.Mover, error) {
		op, err := newOperator(cmd)
		if err != nil {
			return nil, err
		}
		regions, err := everyRegion(cmd.Context(), op)
		if err != nil {
			return nil, err
		}
		last := ""
		return &failover.Mover{Home: op.region, Regions: regions, Prefix: prefix, Progress: func(format string, args ...any) {
			if line := fmt.Sprintf(format, args...); line != last {
				fmt.Fprintln(cmd.ErrOrStderr(), line)
				last = line
			}
		}}, nil
	}
	cmd.AddCommand(failoverCommand(mover), failbackCommand(mover), switchoverCommand(mover))
	return cmd
}

type makeMover func(*cobra.Command) (*failover.Mover, error)

func failoverCommand(mover makeMover) *cobra.Command {
	var o failover.Options
	cmd := &cobra.Command{
		Use:   "failover --lost REGION",
		Short: "Promote the replicas of a lost region's secrets, and tell what may be lost",
		Long: `Promote the replicas of a lost region's secrets, and tell what may be lost: of each
secret the most advanced replica that a surviving region has, unless --primary names a
region. Replicas in other regions follow the new primary.

It refuses while a node of the lost region answers in any of the others.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mover(cmd)
			if err != nil {
				return err
			}
			if o.Lost == m.Home {
				return fmt.Errorf("%s is the region that this runs in: run it in one that survives (--node, --region)", o.Lost)
			}
			report, err := m.Failover(cmd.Context(), o)
			if report != nil && (err == nil || !errors.Is(err, failover.ErrAlive)) {
				if err := showLoss(cmd.OutOrStdout(), report, o.DryRun); err != nil {
					return err
				}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&o.Lost, "lost", "", "the region that is lost")
	cmd.Flags().StringVar(&o.Primary, "primary", "",
		"region whose replicas are promoted, where it has one (default: the most advanced)")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only tell what would be done")
	cmd.Flags().BoolVar(&o.Force, "force", false, "though the region still answers")
	_ = cmd.MarkFlagRequired("lost")
	return cmd
}

// showLoss prints a loss report.
func showLoss(w io.Writer, r *failover.LossReport, dry bool) error {
	fmt.Fprintf(w, "Loss report: region %s\n", r.Lost)
	for region, report := range r.Reports {
		what := "nothing waited to be sent"
		if report.Lagging > 0 {
			what = fmt.Sprintf("%d secrets had changes that were not acknowledged, the oldest of %s",
				report.Lagging, stamp(report.Oldest))
		}
		fmt.Fprintf(w, "  last known at %s in %s: %s\n", stamp(report.At), region, what)
	}
	for region, why := range r.Silent {
		fmt.Fprintf(w, "  %s could not be asked: %s\n", region, why)
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "\nSECRET\tNEW PRIMARY\tLAST REVISION\tCHANGED\tRECEIVED\tREPLICAS\t")
	refused := 0
	for _, s := range r.Secrets {
		note := ""
		switch {
		case s.Refused != "":
			note = s.Refused
			refused++
		case s.Before:
			note = "promoted before"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%v\t%s\n", s.Name, s.To, s.Revision, stamp(s.ChangedAt), stamp(s.ReceivedAt),
			s.Replicas, note)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	verb := "promoted"
	if dry {
		verb = "would be promoted"
	}
	fmt.Fprintf(w, "\n%d secrets %s; %d of them have no replica in %s: %v\n",
		len(r.Secrets)-refused, verb, len(r.NotHere), r.Home, r.NotHere)
	fmt.Fprintf(w, "Secrets of %s that were replicated to no surviving region are not known here, and stay there.\n",
		r.Lost)
	if refused > 0 {
		return fmt.Errorf("%d secrets could not be promoted", refused)
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func failbackCommand(mover makeMover) *cobra.Command {
	var to string
	var handOver bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "failback --to REGION",
		Short: "Bring a region home that was lost and has returned",
		Long: `Bring a region home that was lost and has returned: the secrets that were promoted
elsewhere get replicas there again. What it had written and nobody received is displaced
there (coffer displaced). It returns when they are in sync. With --switch the region
becomes their primary again, by a planned switchover.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mover(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			n, err := m.Failback(ctx, to, handOver)
			if err != nil {
				return fmt.Errorf("regions that can be asked: %s: %w", names(m.Regions), err)
			}
			state := "a replica region of"
			if handOver {
				state = "the primary's region of"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is %s %d secrets\n", to, state, n)
			return nil
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the region that has returned")
	cmd.Flags().BoolVar(&handOver, "switch", false, "make it the primary's region again")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait at most")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func switchoverCommand(mover makeMover) *cobra.Command {
	var to string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "switchover --to REGION",
		Short: "Make another region the primary's region of this one's secrets, as planned",
		Long: `Make another region the primary's region of the secrets that this one replicates to it.
No write is lost: writes to a secret are refused with 503, which SDKs try again, while its
last state is on its way. Applications then write in the other region.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mover(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			n, err := m.Switchover(ctx, to)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is the primary's region of %d secrets that %s was\n", to, n, m.Home)
			return nil
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the new primaries' region")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait at most")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}
