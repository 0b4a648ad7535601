// Package failover moves the primary role of secrets between regions: away from a lost region, back to it when it has
// returned, and from one region to another without any loss. It asks the regions' nodes for one step after another;
// each step may be repeated, so that what was interrupted is begun again.
package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"coffer/replication"
)

// Region is an operator's way to one region.
type Region interface {
	Status(ctx context.Context) (*replication.RegionStatus, error)
	List(ctx context.Context, sel *replication.Selection) (*replication.Page, error)
	Carry(ctx context.Context, w *replication.Work) (*replication.Done, error)
	SetSuccessors(ctx context.Context, region string, by []string) error
	// Reach says why no node of region answers there; empty if one does.
	Reach(ctx context.Context, region string) (why string, err error)
}

// Mover moves secrets between regions. Home is the region that is asked first.
type Mover struct {
	Home    string
	Regions map[string]Region
	Prefix  string // of the names of the secrets that are moved
	// Progress is called with what is being done.
	Progress func(format string, args ...any)
}

// secretID tells secrets apart over regions.
type secretID struct{ account, name, suffix string }

func idOf(i *replication.Item) secretID { return secretID{i.Account, i.Name, i.Suffix} }

// Moved is what a failover does, or would do, with one secret.
type Moved struct {
	Name       string
	To         string    // region of the new primary
	Before     bool      // it was promoted there before
	Revision   uint64    // of the lost primary, the last one that the new primary received
	ChangedAt  time.Time // when the lost primary came to it
	ReceivedAt time.Time
	Replicas   []string // regions that follow the new primary
	Refused    string   // why it could not be promoted
	item       replication.Item
	keys       map[string]string // replica region -> KMS key there
}

// LossReport is what a failover found, and what may be lost.
type LossReport struct {
	Lost    string
	Home    string
	Secrets []Moved
	// Reports are what the lost region last said of its outbox, by the region that it said it to.
	Reports map[string]Report
	// NotHere are secrets that other regions have replicas of, and Home has not.
	NotHere []string
	// Silent are regions that could not be asked, and why.
	Silent map[string]string
	// Alive are regions that still reach the lost one.
	Alive []string
}

// Report is what a region said of its outbox.
type Report struct {
	At      time.Time
	Lagging int
	Oldest  time.Time // of the changes that it had not seen acknowledged
}

// ErrAlive says that the lost region still answers.
var ErrAlive = errors.New("the region still answers")

// Options of a failover.
type Options struct {
	Lost    string
	Primary string // the region that becomes the primary where it has a replica; the most advanced one if empty
	DryRun  bool
	Force   bool // though the lost region still answers
}

// Failover promotes the replicas of a lost region's secrets: of each secret the most advanced one, or the one that was
// named, and has the others follow it.
func (m *Mover) Failover(ctx context.Context, o Options) (*LossReport, error) {
	report := &LossReport{Lost: o.Lost, Home: m.Home, Reports: map[string]Report{}, Silent: map[string]string{}}
	survivors := maps.Clone(m.Regions)
	delete(survivors, o.Lost)
	var mu sync.Mutex // guards report
	var asking sync.WaitGroup
	for region := range m.Regions {
		if region == o.Lost {
			continue
		}
		asking.Go(func() {
			last, alive, err := m.inspect(ctx, region, o.Lost)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				report.Silent[region] = err.Error()
				delete(survivors, region)
				return
			case alive:
				report.Alive = append(report.Alive, region)
			}
			if last != nil {
				report.Reports[region] = *last
			}
		})
	}
	asking.Wait()
	slices.Sort(report.Alive)
	if survivors[m.Home] == nil {
		return report, fmt.Errorf("the region %s, which this runs in, can't be asked: %s", m.Home, report.Silent[m.Home])
	}
	if len(report.Alive) > 0 && !o.Force && !o.DryRun {
		return report, fmt.Errorf("%w: %s is reached from %s. Use --force if its secrets shall be promoted all the same: "+
			"it goes on taking writes, which are then not replicated", ErrAlive, o.Lost, strings.Join(report.Alive, ", "))
	}
	holders, err := m.holders(ctx, survivors, o.Lost)
	if err != nil {
		return report, err
	}
	for _, id := range slices.SortedFunc(maps.Keys(holders), func(a, b secretID) int {
		return strings.Compare(a.name, b.name)
	}) {
		moved := choose(holders[id], o.Primary, m.Home)
		report.Secrets = append(report.Secrets, moved)
		if _, here := holders[id][m.Home]; !here {
			report.NotHere = append(report.NotHere, id.name)
		}
	}
	if o.DryRun {
		return report, nil
	}
	return report, m.promote(ctx, survivors, report)
}

// inspect asks a survivor what it last heard of the lost region, and whether it reaches it.
func (m *Mover) inspect(ctx context.Context, region, lost string) (last *Report, alive bool, err error) {
	status, err := m.Regions[region].Status(ctx)
	if err != nil {
		return nil, false, err
	}
	for _, p := range status.Others {
		if p.Region == lost && p.Report.At != 0 {
			last = &Report{At: time.UnixMilli(p.Report.At), Lagging: p.Report.Lagging}
			if p.Report.Oldest != 0 {
				last.Oldest = time.UnixMilli(p.Report.Oldest)
			}
		}
	}
	why, err := m.Regions[region].Reach(ctx, lost)
	return last, err == nil && why == "", err
}

// holders are the replicas of a region's secrets, and the secrets that were promoted from it, by secret and region.
func (m *Mover) holders(ctx context.Context, in map[string]Region,
	of string) (map[secretID]map[string]replication.Item, error) {
	found := map[secretID]map[string]replication.Item{}
	for region := range in {
		err := m.each(ctx, region, &replication.Selection{Region: of, Prefix: m.Prefix}, func(item replication.Item) {
			id := idOf(&item)
			if found[id] == nil {
				found[id] = map[string]replication.Item{}
			}
			found[id][region] = item
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// each calls visit with everything that a region lists.
func (m *Mover) each(ctx context.Context, region string, sel *replication.Selection,
	visit func(replication.Item)) error {
	page := *sel
	for {
		got, err := m.Regions[region].List(ctx, &page)
		if err != nil {
			return fmt.Errorf("list the secrets in %s: %w", region, err)
		}
		for _, item := range got.Items {
			visit(item)
		}
		if len(got.Next) == 0 {
			return nil
		}
		page.After = got.Next
	}
}

// choose decides which of a secret's replicas becomes the primary. One that was promoted before stays it.
func choose(at map[string]replication.Item, named, home string) Moved {
	best := ""
	better := func(a, b string) bool {
		x, y := at[a], at[b]
		switch {
		case (x.Primary == "") != (y.Primary == ""):
			return x.Primary == ""
		case (a == named) != (b == named):
			return a == named
		case x.Epoch != y.Epoch:
			return x.Epoch > y.Epoch
		case x.Revision != y.Revision:
			return x.Revision > y.Revision
		case (a == home) != (b == home):
			return a == home
		}
		return a < b
	}
	for region := range at {
		if best == "" || better(region, best) {
			best = region
		}
	}
	item := at[best]
	moved := Moved{
		Name: item.Name, To: best, Before: item.Primary == "", Revision: item.Revision, item: item, keys: map[string]string{},
	}
	if item.ChangedAt != 0 {
		moved.ChangedAt, moved.ReceivedAt = time.UnixMilli(item.ChangedAt), time.UnixMilli(item.ReceivedAt)
	}
	for region, replica := range at {
		if region != best {
			moved.Replicas = append(moved.Replicas, region)
			moved.keys[region] = replica.KeyID
		}
	}
	slices.Sort(moved.Replicas)
	return moved
}

// step is how many secrets one step is about.
const step = 200

// promote has the survivors let their replicas follow the new primaries, and then promotes those.
func (m *Mover) promote(ctx context.Context, survivors map[string]Region, report *LossReport) error {
	work := map[string][]int{} // region -> its secrets
	for i, s := range report.Secrets {
		work[s.To] = append(work[s.To], i)
	}
	primaries := slices.Sorted(maps.Keys(work))
	for region, r := range survivors {
		by := slices.DeleteFunc(slices.Clone(primaries), func(p string) bool { return p == region })
		if err := r.SetSuccessors(ctx, report.Lost, by); err != nil {
			return fmt.Errorf("let replicas in %s follow their new primaries: %w", region, err)
		}
	}
	done := 0
	for _, region := range primaries {
		for part := range slices.Chunk(work[region], step) {
			w := &replication.Work{Do: replication.DoPromote, Region: report.Lost}
			for _, i := range part {
				s := &report.Secrets[i]
				w.Tasks = append(w.Tasks, replication.Task{
					Account: s.item.Account, Name: s.item.Name, Suffix: s.item.Suffix, Links: s.keys,
				})
			}
			got, err := m.Regions[region].Carry(ctx, w)
			if err != nil {
				return fmt.Errorf("promote in %s: %w; what was done stays done: run the same command again", region, err)
			}
			for n, i := range part {
				report.Secrets[i].Refused = got.Refused[n]
			}
			done += len(part)
			m.Progress("promoted %d of %d", done, len(report.Secrets))
		}
	}
	return nil
}
