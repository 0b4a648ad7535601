package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/cluster/raftlog"
	"coffer/fsm"
)

// OpenSurvivor opens what a stopped node with this configuration left behind, to make it its region.
func OpenSurvivor(c Config, log *slog.Logger) (*cluster.Survivor, error) {
	if c.Data == "" || c.CA == "" || c.Cert == "" || c.Key == "" {
		return nil, errors.New("data, ca, cert and key of the node are needed: give what `coffer server` is given")
	}
	if err := checkMarks(c.Data); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(c.Data, raftlog.File)); err != nil {
		return nil, fmt.Errorf("there is no data of a node: %w", err)
	}
	credentials, err := pki.Load(c.CA, c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	store, err := fsm.Open(c.Data, fsm.Options{Log: log, OnDamage: func(error) {}})
	if err != nil {
		return nil, err
	}
	return cluster.OpenSurvivor(cluster.SurvivorConfig{Dir: c.Data, Store: store, Credentials: credentials, Log: log})
}
