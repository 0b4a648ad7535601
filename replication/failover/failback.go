package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"coffer/replication"
)

// pollInterval is how often progress is looked at.
const pollInterval = 200 * time.Millisecond

// Failback brings a region home that was lost: the secrets that were promoted elsewhere meanwhile get replicas there
// again. What the region wrote and nobody received is displaced there. It returns when they are in sync, and, with
// hand over, when the region is their primary again. It answers how many secrets there are.
func (m *Mover) Failback(ctx context.Context, to string, handOver bool) (int, error) {
	if m.Regions[to] == nil {
		return 0, fmt.Errorf("no node of %s can be asked", to)
	}
	others := maps.Clone(m.Regions)
	delete(others, to)
	holders, err := m.holders(ctx, others, to)
	if err != nil {
		return 0, err
	}
	work := map[string][]replication.Task{} // region of the primary -> its secrets
	total := 0
	for id, at := range holders {
		for region, item := range at {
			if item.Primary == "" {
				work[region] = append(work[region], replication.Task{Account: id.account, Name: id.name, Suffix: id.suffix})
				total++
			}
		}
	}
	if total == 0 {
		return 0, nil
	}
	if err := m.Regions[to].SetSuccessors(ctx, to, slices.Sorted(maps.Keys(work))); err != nil {
		return 0, fmt.Errorf("let secrets in %s follow their new primaries: %w", to, err)
	}
	for region, tasks := range work {
		if err := m.carry(ctx, region, replication.DoReplicate, to, tasks); err != nil {
			return 0, err
		}
	}
	for region, tasks := range work {
		if err := m.awaitSync(ctx, region, to, tasks); err != nil {
			return 0, err
		}
	}
	if err := m.Regions[to].SetSuccessors(ctx, to, nil); err != nil {
		return 0, err
	}
	if !handOver {
		return total, nil
	}
	for region, tasks := range work {
		if err := m.handOver(ctx, region, to, tasks); err != nil {
			return 0, err
		}
	}
	for _, r := range others {
		if err := r.SetSuccessors(ctx, to, nil); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// Switchover makes a region the primary of the secrets that the home region replicates to it. No write is lost;
// writes to a secret are refused for as long as its last state is on its way. It answers how many secrets there are.
func (m *Mover) Switchover(ctx context.Context, to string) (int, error) {
	var tasks []replication.Task
	err := m.each(ctx, m.Home, &replication.Selection{Region: to, Linked: true, Prefix: m.Prefix},
		func(i replication.Item) {
			tasks = append(tasks, replication.Task{Account: i.Account, Name: i.Name, Suffix: i.Suffix})
		})
	if err != nil || len(tasks) == 0 {
		return 0, err
	}
	if err := m.awaitSync(ctx, m.Home, to, tasks); err != nil {
		return 0, err
	}
	return len(tasks), m.handOver(ctx, m.Home, to, tasks)
}

// carry does one thing with secrets whose primary is in region, in bounded steps.
func (m *Mover) carry(ctx context.Context, region, do, to string, tasks []replication.Task) error {
	done := 0
	for part := range slices.Chunk(tasks, step) {
		got, err := m.Regions[region].Carry(ctx, &replication.Work{Do: do, Region: to, Tasks: part})
		if err != nil {
			return fmt.Errorf("%s in %s: %w; what was done stays done: run the same command again", do, region, err)
		}
		for i, why := range got.Refused {
			if why != "" {
				return fmt.Errorf("%s %s in %s: %s", do, part[i].Name, region, why)
			}
		}
		done += len(part)
		m.Progress("%s: %s, %d of %d", region, do, done, len(tasks))
	}
	return nil
}

// ErrRefused says that a replica region refuses a secret.
var ErrRefused = errors.New("refuses a secret")

// awaitSync waits until the region to has acknowledged each secret once since it was linked.
func (m *Mover) awaitSync(ctx context.Context, region, to string, tasks []replication.Task) error {
	waiting := wanted(tasks)
	return m.poll(ctx, func() (bool, error) {
		missing, refused := 0, ""
		err := m.each(ctx, region, &replication.Selection{Region: to, Linked: true, Prefix: m.Prefix},
			func(i replication.Item) {
				if !waiting[idOf(&i)] {
					return
				}
				if i.Acked == 0 {
					missing++
				}
				if i.Failed != "" {
					refused = i.Name + ": " + i.Failed
				}
			})
		if err == nil && refused != "" {
			err = fmt.Errorf("%s %w: %s", to, ErrRefused, refused)
		}
		m.Progress("%s: in sync in %s, %d of %d", region, to, len(tasks)-missing, len(tasks))
		return missing == 0, err
	})
}

// handOver hands the primary role over, and waits until the new primaries have told so.
func (m *Mover) handOver(ctx context.Context, region, to string, tasks []replication.Task) error {
	if err := m.carry(ctx, region, replication.DoHandOver, to, tasks); err != nil {
		return err
	}
	waiting := wanted(tasks)
	return m.poll(ctx, func() (bool, error) {
		done := 0
		err := m.each(ctx, region, &replication.Selection{Region: to, Prefix: m.Prefix}, func(i replication.Item) {
			if waiting[idOf(&i)] && i.Revision > 0 {
				done++
			}
		})
		m.Progress("%s: follows %s, %d of %d", region, to, done, len(tasks))
		return done == len(tasks), err
	})
}

func wanted(tasks []replication.Task) map[secretID]bool {
	w := make(map[secretID]bool, len(tasks))
	for _, t := range tasks {
		w[secretID{t.Account, t.Name, t.Suffix}] = true
	}
	return w
}

func (m *Mover) poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
