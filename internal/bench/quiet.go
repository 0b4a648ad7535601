package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What counts as a quiet machine: contention slows a floor as it slows Coffer, so ratios look better than they are.
const (
	quietFor    = 2 * time.Second
	mostBusy    = 0.10 // of the cores, before a benchmark
	mostStolen  = 0.05 // of the cores, by other guests of the host
	mostForeign = 0.15 // of the cores, while a benchmark runs: the kernel's own work for it is part of this
)

// machine is what the machine's cores have done since it started (proc_stat(5), 1/100 s).
type machine struct {
	all, busy, stolen float64
}

// loadBefore is what the machine did when a benchmark began, and where its counters were.
type loadBefore struct {
	average      string // of the last minute
	busy, stolen float64
	counters     machine
	own          time.Duration
}

// quiet measures what the machine does for others, and refuses one that is not quiet.
func quiet(ctx context.Context) (*loadBefore, error) {
	first, err := readMachine()
	if err != nil {
		return nil, err
	}
	wait(ctx, quietFor)
	now, err := readMachine()
	if err != nil {
		return nil, err
	}
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	own, err := ownCPU()
	if err != nil {
		return nil, err
	}
	l := &loadBefore{average: strings.Fields(string(average))[0], counters: now, own: own}
	l.busy, l.stolen = now.since(first)
	if l.busy > mostBusy || l.stolen > mostStolen {
		return nil, fmt.Errorf("the machine has to be quiet, at most %.0f%% busy and %.0f%% stolen by its host; found %v: "+
			"stop what else runs (see top) and start again", 100*mostBusy, 100*mostStolen, l)
	}
	return l, nil
}

func (l *loadBefore) String() string {
	return fmt.Sprintf("load before: average %s, %.0f%% busy, %.0f%% stolen", l.average, 100*l.busy, 100*l.stolen)
}

// end tells what others had of the machine since, and refuses the figures if that was much. The benchmark's processes
// have ended.
func (l *loadBefore) end() error {
	now, err := readMachine()
	if err != nil {
		return err
	}
	own, err := ownCPU()
	if err != nil {
		return err
	}
	busy, stolen := now.since(l.counters)
	foreign := max(0, busy-100*(own-l.own).Seconds()/(now.all-l.counters.all))
	fmt.Printf("meanwhile others and the kernel used %.0f%% of the cores, %.0f%% were stolen\n", 100*foreign, 100*stolen)
	if foreign > mostForeign || stolen > mostStolen {
		return fmt.Errorf("these figures do not count, since the machine was not quiet: at most %.0f%% used by others and "+
			"%.0f%% stolen were wanted; stop what else runs (see top) and start again", 100*mostForeign, 100*mostStolen)
	}
	return nil
}

// since is which shares of the cores were busy, and stolen, since an earlier look.
func (m machine) since(before machine) (busy, stolen float64) {
	all := m.all - before.all
	return (m.busy - before.busy) / all, (m.stolen - before.stolen) / all
}

func readMachine() (m machine, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return m, errors.New("/proc/stat does not begin with the cores' times")
	}
	for i, field := range fields[1:9] { // user, nice, system, idle, waiting for disks, interrupts (2), stolen
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return m, err
		}
		switch m.all += ticks; i {
		case 3, 4:
		case 7:
			m.stolen += ticks
		default:
			m.busy += ticks
		}
	}
	return m, nil
}

// ownCPU is the CPU time of this process and of its children that have ended.
func ownCPU() (sum time.Duration, err error) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			return 0, err
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum, nil
}
