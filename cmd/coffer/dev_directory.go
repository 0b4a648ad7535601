package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coffer/cluster/pki"
	"coffer/iam"
	"coffer/kms/rootkey"
)

// The files of a development directory.
const (
	devJSON         = "dev.json"
	rootKeyFile     = "root-key"
	gossipKeyFile   = "gossip-key"
	regionGossipKey = "region-gossip-key"
	rootCredsFile   = "root-credentials.json"
	operatorYAML    = "operator.yaml"
	controlSocket   = "control.sock" // see control
	lockFile        = "lock"         // see lockDirectory
)

// devInfo is dev.json, the contract for scripts and tests. It is there while all is up, and always says what is so.
type devInfo struct {
	iam.Credentials
	Regions map[string]devRegion `json:"regions"`
}

type devRegion struct {
	Endpoints []string  `json:"endpoints"`
	Nodes     []devNode `json:"nodes"`
}

type devNode struct {
	ID       string    `json:"id"`
	PID      int       `json:"pid"` // 0 if it does not run
	Endpoint string    `json:"endpoint"`
	Data     string    `json:"data"`
	State    nodeState `json:"state"`
}

func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "coffer-dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no state folder: give --data: %w", err)
	}
	return filepath.Join(home, ".local", "state", "coffer-dev"), nil
}

func (c *devConfig) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *devConfig) id(i int) string                  { return "n" + strconv.Itoa(i+1) }
func (c *devConfig) nodeDir(region, id string) string { return c.path(region, id, "data") }
func (c *devConfig) certDir(region, id string) string { return c.path(region, id, "pki") }

// operatorDir has the certificate of an operator of all the regions, which it lists.
func (c *devConfig) operatorDir() string { return c.path("operator") }

// prepare makes what is missing: authority, certificates, keys, credentials.
func (c *devConfig) prepare() (creds iam.Credentials, err error) {
	ca := c.path("ca")
	missing := func(path string, create func() error) {
		if err != nil {
			return
		}
		if _, statErr := os.Stat(path); errors.Is(statErr, os.ErrNotExist) {
			err = create()
		}
	}
	issue := func(dir string, id pki.Identity, others ...string) {
		missing(filepath.Join(dir, pki.CertFile), func() error { return pki.Issue(ca, dir, id, time.Now(), others...) })
	}
	private := func(path string) {
		missing(path, func() error { return createPrivate(path, rootkey.Generate()) })
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return creds, err
	}
	missing(filepath.Join(ca, pki.CAFile), func() error { return pki.CreateAuthority(ca, time.Now()) })
	missing(c.path(rootCredsFile), func() error {
		b, err := json.MarshalIndent(iam.GenerateCredentials(iam.GenerateAccount()), "", "  ")
		if err != nil {
			return err
		}
		return createPrivate(c.path(rootCredsFile), b)
	})
	private(c.path(regionGossipKey))
	for _, region := range c.regions {
		if err := os.MkdirAll(c.path(region), 0o700); err != nil {
			return creds, err
		}
		// Fewer nodes than last time would be no majority of what the cluster's members are.
		if _, statErr := os.Stat(c.nodeDir(region, c.id(c.nodes))); statErr == nil {
			return creds, fmt.Errorf("--nodes %d: %s has data of more nodes: give their number as before, or another --data",
				c.nodes, c.path(region))
		}
		private(c.path(region, rootKeyFile))
		private(c.path(region, gossipKeyFile))
		for i := range c.nodes {
			issue(c.certDir(region, c.id(i)), pki.Identity{Role: pki.Node, Region: region, ID: c.id(i)})
		}
	}
	if err := c.dropOperator(); err != nil {
		return creds, err
	}
	issue(c.operatorDir(), pki.Identity{Role: pki.Operator, Region: c.regions[0], ID: "dev"}, c.regions[1:]...)
	if err != nil {
		return creds, err
	}
	raw, err := rootkey.ReadPrivate(c.path(rootCredsFile))
	if err != nil {
		return creds, err
	}
	return creds, json.Unmarshal(raw, &creds)
}

// dropOperator removes an operator's certificate that is not for all the regions.
func (c *devConfig) dropOperator() error {
	const list = "regions"
	path := filepath.Join(c.operatorDir(), list)
	regions := strings.Join(c.regions, ",")
	if b, err := os.ReadFile(path); err == nil && string(b) == regions {
		return nil
	}
	return errors.Join(os.RemoveAll(c.operatorDir()), os.MkdirAll(c.operatorDir(), 0o700),
		os.WriteFile(path, []byte(regions), 0o600))
}

// writeOperator makes the configuration of operators' commands about a region.
func (c *devConfig) writeOperator(region, peer string) error {
	dir := c.operatorDir()
	yaml := fmt.Sprintf("node: %s\nregion: %s\nca: %s\ncert: %s\nkey: %s\n", peer, region,
		filepath.Join(dir, pki.CAFile), filepath.Join(dir, pki.CertFile), filepath.Join(dir, pki.KeyFile))
	return os.WriteFile(c.path(region, operatorYAML), []byte(yaml), 0o600)
}

// writeJSON writes a file atomically.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
