package testcluster

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// Each node has a network namespace with an address of its own. They meet on a bridge in a hub namespace,
// where nobody's firewall applies; clients, in this namespace, have an address there too.
const (
	hub     = "coffer-hub"
	link    = "coffer-test"
	subnet  = "10.231.77."
	clients = subnet + "254"
)

// Isolate gives each node an address of its own in a network namespace, so that Cut can keep nodes apart.
// It needs root. Call it before the first Start, and the answer when the cluster is closed.
func (c *Cluster) Isolate() (remove func(), err error) { return isolate(c) }

func isolate(clusters ...*Cluster) (remove func(), err error) {
	var nodes []*Node
	for _, c := range clusters {
		nodes = append(nodes, c.Nodes...)
	}
	remove = func() {
		for i := range nodes {
			_ = run("ip", "netns", "del", namespace(i)) // what was never made can't be deleted
		}
		_ = run("ip", "netns", "del", hub)
		_ = run("ip", "link", "del", link)
	}
	remove() // of a run that was killed
	commands := []string{
		"ip netns add " + hub,
		"ip -n " + hub + " link add bridge type bridge",
		"ip -n " + hub + " link set bridge up",
		"ip link add " + link + " type veth peer name clients netns " + hub,
		"ip -n " + hub + " link set clients master bridge up",
		"ip addr add " + clients + "/24 dev " + link,
		"ip link set " + link + " up",
	}
	for i, n := range nodes {
		ns := namespace(i)
		n.host = fmt.Sprint(subnet, i+1)
		commands = append(commands,
			"ip netns add "+ns,
			fmt.Sprintf("ip -n %s link add node%d type veth peer name eth0 netns %s", hub, i, ns),
			fmt.Sprintf("ip -n %s link set node%d master bridge up", hub, i),
			"ip -n "+ns+" addr add "+n.host+"/24 dev eth0",
			"ip -n "+ns+" link set eth0 up",
			"ip -n "+ns+" link set lo up",
		)
		n.listen, n.peer, n.gossip, n.regionGossip = net.JoinHostPort(n.host, "7400"), net.JoinHostPort(n.host, "7401"),
			net.JoinHostPort(n.host, "7402"), net.JoinHostPort(n.host, "7403")
		n.Endpoint = "http://" + n.listen
		n.wrap = []string{"ip", "netns", "exec", ns}
	}
	for _, c := range clusters {
		c.extraArgs = append(c.extraArgs, "--insecure-http")
	}
	for _, command := range commands {
		if err := run(strings.Fields(command)...); err != nil {
			remove()
			return nil, err
		}
	}
	return remove, nil
}

func namespace(i int) string { return fmt.Sprint("coffer-n", i+1) }

// Cut cuts a node off from the other nodes; clients still reach it.
func (n *Node) Cut() error { return n.cutFrom(subnet+"0/25", true, true) }

// cutFrom drops what comes from addresses, what goes to them, or both.
func (n *Node) cutFrom(addresses string, in, out bool) error {
	for _, chain := range []struct {
		name, flag string
		cut        bool
	}{{"INPUT", "-s", in}, {"OUTPUT", "-d", out}} {
		if !chain.cut {
			continue
		}
		if err := run("ip", "netns", "exec", n.wrap[3], "iptables", "-A", chain.name, chain.flag, addresses, "-j",
			"DROP"); err != nil {
			return err
		}
	}
	return nil
}

// Heal ends a Cut.
func (n *Node) Heal() error {
	return run("ip", "netns", "exec", n.wrap[3], "iptables", "-F")
}

func run(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Disk is a file system of its own, in a file, that can lose power.
type Disk struct{ image, Dir string }

// NewDisk makes and mounts a file system at dir. It needs root.
func NewDisk(image, dir string) (*Disk, error) {
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(256 << 20); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	d := &Disk{image, dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := run("mkfs.ext4", "-q", image); err != nil {
		return nil, err
	}
	return d, d.Mount()
}

// Mount mounts the file system.
func (d *Disk) Mount() error { return run("mount", "-o", "loop", d.image, d.Dir) }

// Unmount unmounts it.
func (d *Disk) Unmount() error { return run("umount", d.Dir) }
