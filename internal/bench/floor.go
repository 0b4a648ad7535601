package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/labstack/echo/v4"
	"go.etcd.io/bbolt"
)

// runReadFloor is the least that a server of the same parts does for a read: echo, JSON decoding, one HMAC,
// one bbolt read, one AES-GCM open of 1 KiB, a JSON answer. It prints its address and serves until killed.
func runReadFloor(dir string) error {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(dir, "floor.db"), 0o600, nil)
	if err != nil {
		return err
	}
	nonce := make([]byte, 12)
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("v"))
		if err != nil {
			return err
		}
		for i := range secretsRead {
			if err := b.Put([]byte(name(i)), aead.Seal(nil, nonce, []byte(value(0, i)), nil)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	e := echo.New()
	e.POST("/", func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		var in struct{ SecretId string }
		if err := json.Unmarshal(body, &in); err != nil {
			return err
		}
		mac := hmac.New(sha256.New, nonce)
		mac.Write(body)
		mac.Sum(nil)
		var plain []byte
		err = db.View(func(tx *bbolt.Tx) (err error) {
			plain, err = aead.Open(nil, nonce, tx.Bucket([]byte("v")).Get([]byte(in.SecretId)), nil)
			return err
		})
		if err != nil {
			return err
		}
		out, err := json.Marshal(struct {
			ARN, Name, VersionId, SecretString string
			VersionStages                      []string
			CreatedDate                        float64
		}{
			"arn:aws:secretsmanager:us-east-1:123456789012:secret:" + in.SecretId, in.SecretId,
			"00000000-0000-0000-0000-000000000000", string(plain), []string{"AWSCURRENT"}, 1.5,
		})
		if err != nil {
			return err
		}
		return c.Blob(http.StatusOK, "application/x-amz-json-1.1", out)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	return (&http.Server{Handler: e}).Serve(l)
}

type nothingFSM struct{}

func (nothingFSM) Apply(*raft.Log) any                 { return nil }
func (nothingFSM) Snapshot() (raft.FSMSnapshot, error) { return nothingFSM{}, nil }
func (nothingFSM) Restore(r io.ReadCloser) error       { return r.Close() }
func (nothingFSM) Persist(s raft.SnapshotSink) error   { return s.Close() }
func (nothingFSM) Release()                            {}

// raftFloor is bare Raft: three nodes in this process over loopback with raft-boltdb, writers of 1 KiB in a closed
// loop.
// Its CPU is that of this process, writers included, which do nothing but wait.
func raftFloor(ctx context.Context, dir string, writers int, d time.Duration) (r result, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	var nodes []*raft.Raft
	var servers []raft.Server
	var starts []func() error
	for i := range 3 {
		transport, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, time.Second, hclog.NewNullLogger())
		if err != nil {
			return r, err
		}
		defer transport.Close()
		id := raft.ServerID(fmt.Sprint(i))
		servers = append(servers, raft.Server{ID: id, Address: transport.LocalAddr()})
		starts = append(starts, func() error {
			store, err := raftboltdb.NewBoltStore(filepath.Join(dir, string(id)+".db"))
			if err != nil {
				return err
			}
			rc := raft.DefaultConfig()
			rc.LocalID = id
			rc.Logger = hclog.NewNullLogger()
			snapshots := raft.NewInmemSnapshotStore()
			if err := raft.BootstrapCluster(rc, store, store, snapshots, transport, raft.Configuration{
				Servers: servers,
			}); err != nil {
				return err
			}
			r, err := raft.NewRaft(rc, nothingFSM{}, store, store, snapshots, transport)
			nodes = append(nodes, r)
			return err
		})
	}
	for _, start := range starts {
		if err := start(); err != nil {
			return r, err
		}
	}
	defer func() {
		for _, r := range nodes {
			_ = r.Shutdown().Error()
		}
	}()
	var leader *raft.Raft
	for leader == nil {
		for _, r := range nodes {
			if r.State() == raft.Leader {
				leader = r
			}
		}
		time.Sleep(10 * time.Millisecond)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
	}
	payload := bytes.Repeat([]byte("x"), 1024)
	var count atomic.Int64
	before, err := cpuOf([]int{os.Getpid()})
	if err != nil {
		return r, err
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for time.Since(start) < d && ctx.Err() == nil {
				if leader.Apply(payload, 0).Error() == nil {
					count.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	elapsed := time.Since(start)
	after, err := cpuOf([]int{os.Getpid()})
	if err != nil {
		return r, err
	}
	r.requests = int(count.Load())
	r.rate = float64(r.requests) / elapsed.Seconds()
	r.cpu = float64((after - before).Microseconds()) / float64(r.requests)
	return r, nil
}

func name(i int) string { return fmt.Sprintf("bench/%06d", i) }

// value is 1 KiB of text that no other version has.
func value(worker, i int) string {
	s := fmt.Sprintf("%d-%d-", worker, i)
	return s + strings.Repeat("v", 1024-len(s))
}
