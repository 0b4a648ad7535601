package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func (b *bench) startFloor() (endpoint string, pid int, stop func(), err error) {
	cmd := exec.Command(os.Args[0], "floor", b.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", 0, nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", 0, nil, err
	}
	return strings.TrimSpace(line), cmd.Process.Pid, stop, nil
}

// contender is a load that runs in turn with others.
type contender struct {
	name string
	load load
}

// rounds runs the contenders in turn, and answers each one's CPU a request by round.
func (b *bench) rounds(contenders []contender) ([][]float64, error) {
	cpu := make([][]float64, len(contenders))
	for round := range readRounds + 1 {
		for i, c := range contenders {
			got, err := c.load.run(b.ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if round == 0 {
				continue // warming up
			}
			fmt.Printf("%-21s %v\n", c.name, got)
			cpu[i] = append(cpu[i], got.cpu)
		}
	}
	return cpu, nil
}

// read measures GetSecretValue on one node and on three beside the floor, in turn.
func (b *bench) read() error {
	endpoint, pid, stop, err := b.startFloor()
	if err != nil {
		return err
	}
	defer stop()
	one, err := b.region("read-1", 1)
	if err != nil {
		return err
	}
	defer one.Close()
	three, err := b.region("read-3", 3)
	if err != nil {
		return err
	}
	defer three.Close()
	for _, r := range []*region{one, three} {
		if err := b.create(r, 0, secretsRead); err != nil {
			return err
		}
	}
	floor := load{
		endpoints: []string{endpoint}, pids: []int{pid}, signer: one.signer, workers: readers, duration: roundTime,
		operation: "GetSecretValue", body: getBody(secretsRead),
	}
	contenders := []contender{
		{"floor", floor},
		{"1 node", one.load("GetSecretValue", readers, roundTime, getBody(secretsRead))},
		{"3 nodes", three.load("GetSecretValue", readers, roundTime, getBody(secretsRead))},
	}
	cpu, err := b.rounds(contenders)
	if err != nil {
		return err
	}
	var toFloor, toOne []float64
	for i, floor := range cpu[0] { // each round against its own floor: the machine's speed drifts
		toFloor = append(toFloor, cpu[1][i]/floor)
		toOne = append(toOne, cpu[2][i]/cpu[1][i])
	}
	fmt.Printf("median CPU a read: 1 node %.2f × floor (at most 2.25, goal 1.45), 3 nodes %.2f × 1 node (at most 1.5)\n",
		median(toFloor), median(toOne))
	return nil
}
