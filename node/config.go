package node

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"coffer/cluster"
	"coffer/cluster/pki"
	"coffer/cluster/quorum"
	"coffer/httpapi"
	"coffer/iam"
	"coffer/kms/rootkey"
)

// Config of one node. Each field is a flag of `coffer server` of the same name, a COFFER_ variable and a key of its
// YAML file.
type Config struct {
	Data string `mapstructure:"data"` // data directory

	CA   string `mapstructure:"ca"`   // certificate authority of the cluster, PEM
	Cert string `mapstructure:"cert"` // this node's certificate, PEM; it names node and region
	Key  string `mapstructure:"key"`  // its private key, PEM, mode 0600
	// Revoked is a file with a list of revoked certificates, read again when it changes; empty for none.
	Revoked string `mapstructure:"revoked"`

	Listen       string `mapstructure:"listen"`        // client port, host:port
	Endpoint     string `mapstructure:"endpoint"`      // URL that clients reach it by; of Listen if empty
	TLSCert      string `mapstructure:"tls-cert"`      // certificate of the client port, PEM, read again when it changes
	TLSKey       string `mapstructure:"tls-key"`       // its private key
	InsecureHTTP bool   `mapstructure:"insecure-http"` // allow plain HTTP beyond loopback

	// What clients can take of the node (httpapi.Limits); httpapi.DefaultLimits where 0.
	ClientConnections           int `mapstructure:"client-connections"`
	ClientConnectionsPerAddress int `mapstructure:"client-connections-per-address"`
	ClientMemory                int `mapstructure:"client-memory"`             // MiB of bodies and answers
	ClientMemoryPerAddress      int `mapstructure:"client-memory-per-address"` // MiB

	Peer            string `mapstructure:"peer"`             // peer port, host:port
	PeerAdvertise   string `mapstructure:"peer-advertise"`   // host:port that others reach it by
	Gossip          string `mapstructure:"gossip"`           // gossip port, host:port, TCP and UDP
	GossipAdvertise string `mapstructure:"gossip-advertise"` // host:port that others reach it by
	GossipKey       string `mapstructure:"gossip-key"`       // file with the region's gossip key, mode 0600

	MaxClockOffset time.Duration `mapstructure:"max-clock-offset"` // between nodes, for what can't be undone

	Join            []string `mapstructure:"join"`             // gossip addresses of other nodes
	BootstrapExpect int      `mapstructure:"bootstrap-expect"` // nodes that form a new cluster; 0 only joins
	NonVoter        bool     `mapstructure:"non-voter"`        // never votes: answers reads and counts for nothing

	// that a node waits for a word of its leader; 0: default
	ElectionTimeout time.Duration `mapstructure:"election-timeout"`

	// when servers that do not answer are removed: a duration, off or auto
	RemoveDeadAfter string `mapstructure:"remove-dead-after"`

	// Entries of the log that are given up, INDEX:CHECKSUM each, the same on every node.
	SkipEntry []string `mapstructure:"skip-entry"`

	// How the region finds other regions. All of it can be left out.
	RegionGossip          string   `mapstructure:"region-gossip"`           // gossip port for all regions, host:port
	RegionGossipAdvertise string   `mapstructure:"region-gossip-advertise"` // host:port that other regions reach it by
	RegionGossipKey       string   `mapstructure:"region-gossip-key"`       // file with that pool's key, mode 0600
	RegionJoin            []string `mapstructure:"region-join"`             // gossip addresses of nodes of other regions
	RegionPeerAdvertise   string   `mapstructure:"region-peer-advertise"`   // host:port that others reach the peer port by

	RootKey         string `mapstructure:"root-key"`         // the region's root key (rootkey.Schemes)
	RootKeyNext     string `mapstructure:"root-key-next"`    // another one that it may be rotated to; empty for none
	RootCredentials string `mapstructure:"root-credentials"` // file with the account's root credentials, mode 0600
}

// Check says which field is missing or wrong.
func (c *Config) Check() error {
	for _, f := range []struct{ name, value string }{
		{"data", c.Data}, {"ca", c.CA}, {"cert", c.Cert}, {"key", c.Key}, {"listen", c.Listen}, {"peer", c.Peer},
		{"gossip", c.Gossip}, {"gossip-key", c.GossipKey}, {"root-key", c.RootKey}, {"root-credentials", c.RootCredentials},
	} {
		if f.value == "" {
			return fmt.Errorf("%s is not set: give --%s, or set it in the environment or the configuration file", f.name, f.name)
		}
	}
	if _, err := c.removeDead(); err != nil {
		return err
	}
	if err := cluster.CheckElectionTimeout(c.ElectionTimeout); err != nil {
		return err
	}
	if _, err := c.skipped(); err != nil {
		return err
	}
	if err := c.limits().Check(); err != nil {
		return err
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("tls-cert and tls-key belong together: set both or neither")
	case c.BootstrapExpect < 0:
		return fmt.Errorf("bootstrap-expect is %d: wanted the number of nodes that form the cluster", c.BootstrapExpect)
	case c.TLSCert == "" && !c.InsecureHTTP && !loopback(c.Listen):
		return fmt.Errorf("the client port %s would speak plain HTTP beyond this machine: give tls-cert and tls-key,"+
			" or insecure-http if something before it speaks TLS", c.Listen)
	case (c.RegionGossip == "") != (c.RegionGossipKey == ""):
		return errors.New("region-gossip and region-gossip-key belong together: set both, or neither for a region alone")
	case c.RegionGossip == "" && (len(c.RegionJoin) > 0 || c.RegionGossipAdvertise != ""):
		return errors.New("region-join and region-gossip-advertise need region-gossip:" +
			" set the address that this node gossips with other regions at")
	case c.NonVoter && c.BootstrapExpect > 0:
		return errors.New("non-voter is set and bootstrap-expect is too: a node that never votes can only join a cluster")
	case c.BootstrapExpect == 1 && len(c.Join) > 0:
		return errors.New("bootstrap-expect is 1, which forms a cluster alone, and join names other nodes:" +
			" set the one that is meant")
	case c.BootstrapExpect == 0 && len(c.Join) == 0:
		return errors.New("neither bootstrap-expect nor join is set: this node could neither form a cluster nor find one")
	}
	return nil
}

// removeDead reads RemoveDeadAfter.
func (c *Config) removeDead() (rule quorum.RemoveDead, err error) {
	switch c.RemoveDeadAfter {
	case "", "auto":
		return quorum.RemoveDead{Auto: true}, nil
	case "off":
		return rule, nil
	}
	if rule.After, err = time.ParseDuration(c.RemoveDeadAfter); err != nil || rule.After < time.Second {
		return rule, fmt.Errorf("remove-dead-after is %q: wanted a time of at least a second, such as 24h, or off, or auto",
			c.RemoveDeadAfter)
	}
	return rule, nil
}

// skipped reads SkipEntry: the checksums of log entries that are not to be applied, by index.
func (c *Config) skipped() (map[uint64]uint64, error) {
	skipped := map[uint64]uint64{}
	for _, entry := range c.SkipEntry {
		index, sum, _ := strings.Cut(entry, ":")
		at, err := strconv.ParseUint(index, 10, 64)
		if err != nil || len(sum) != 16 {
			return nil, fmt.Errorf("skip-entry is %q: wanted INDEX:CHECKSUM, as the node that can't apply the entry says", entry)
		}
		if skipped[at], err = strconv.ParseUint(sum, 16, 64); err != nil {
			return nil, fmt.Errorf("skip-entry is %q: wanted a checksum of 16 hexadecimal digits", entry)
		}
	}
	return skipped, nil
}

// limits of the client port.
func (c *Config) limits() httpapi.Limits {
	l := httpapi.DefaultLimits
	l.Connections = cmp.Or(c.ClientConnections, l.Connections)
	l.ConnectionsPerAddress = cmp.Or(c.ClientConnectionsPerAddress, l.ConnectionsPerAddress)
	l.Bytes = cmp.Or(int64(c.ClientMemory)<<20, l.Bytes)
	l.BytesPerAddress = cmp.Or(int64(c.ClientMemoryPerAddress)<<20, l.BytesPerAddress)
	return l
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// secrets are what the files of a configuration hold.
type secrets struct {
	credentials      iam.Credentials
	gossipKeys       *gossipKeys
	regionGossipKeys *gossipKeys // nil for a region alone
	peer             *pki.Credentials
}

func (c *Config) load() (s secrets, err error) {
	raw, err := rootkey.ReadPrivate(c.RootCredentials)
	if err != nil {
		return s, fmt.Errorf("root credentials: %w", err)
	}
	if json.Unmarshal(raw, &s.credentials) != nil {
		return s, fmt.Errorf("the root credentials file %s is not the JSON that `coffer keygen root-credentials` writes",
			c.RootCredentials)
	}
	if err := s.credentials.Check(); err != nil {
		return s, fmt.Errorf("the root credentials file %s: %w", c.RootCredentials, err)
	}
	if s.gossipKeys, err = openGossipKeys(c.GossipKey); err != nil {
		return s, err
	}
	if c.RegionGossipKey != "" {
		if s.regionGossipKeys, err = openGossipKeys(c.RegionGossipKey); err != nil {
			return s, err
		}
	}
	s.peer, err = pki.Load(c.CA, c.Cert, c.Key)
	if err == nil && c.Revoked != "" {
		if err := s.peer.UseRevoked(c.Revoked); err != nil {
			return s, fmt.Errorf("revoked certificates: %w", err)
		}
	}
	if err == nil && s.peer.Identity.Role != pki.Node {
		err = fmt.Errorf("the certificate %s is for %s %s: a node needs one of `coffer pki node`", c.Cert,
			s.peer.Identity.Role, s.peer.Identity.ID)
	}
	return s, err
}
