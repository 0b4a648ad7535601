package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coffer/cluster"
	"coffer/cluster/pki"
)

// operatorOptions are how an operator's command reaches a node: over its peer port's mutual TLS.
type operatorOptions struct {
	Node   string `mapstructure:"node"`
	Region string `mapstructure:"region"`
	CA     string `mapstructure:"ca"`
	Cert   string `mapstructure:"cert"`
	Key    string `mapstructure:"key"`
}

func operatorFlags(f *pflag.FlagSet) {
	f.String("config", "", "YAML file with node, region, ca, cert and key (variables: COFFER_NODE, …)")
	f.String("node", "127.0.0.1:7401", "peer port of a node")
	f.String("region", "", "region of that node (default: the first of the operator's certificate)")
	f.String("ca", "", "certificate authority of the cluster (PEM)")
	f.String("cert", "", "the operator's certificate (PEM)")
	f.String("key", "", "the operator's private key (PEM)")
}

// operator calls nodes of a region as an operator.
type operator struct {
	node        string
	region      string
	credentials *pki.Credentials
	client      *http.Client
}

func newOperator(cmd *cobra.Command) (*operator, error) {
	var o operatorOptions
	if err := loadConfig(cmd, &o); err != nil {
		return nil, err
	}
	if o.CA == "" || o.Cert == "" || o.Key == "" {
		return nil, errors.New("an operator's certificate is needed: give --ca, --cert and --key, or --config (`coffer " +
			"pki operator` makes one)")
	}
	credentials, err := pki.Load(o.CA, o.Cert, o.Key)
	if err != nil {
		return nil, err
	}
	if o.Region == "" {
		o.Region = credentials.Identity.Region
	}
	return operatorOf(credentials, o.Region, o.Node), nil
}

func operatorOf(credentials *pki.Credentials, region, node string) *operator {
	transport := &http.Transport{
		TLSClientConfig: credentials.Client(region, "", "http/1.1"), TLSHandshakeTimeout: operatorTimeout,
	}
	transport.DialContext = (&net.Dialer{Timeout: operatorTimeout}).DialContext
	return &operator{node, region, credentials, &http.Client{Transport: transport}}
}

// asOperator makes a command's RunE of what is to be done with a node.
func asOperator(do func(cmd *cobra.Command, op *operator, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		op, err := newOperator(cmd)
		if err != nil {
			return err
		}
		return do(cmd, op, args)
	}
}

// printed makes a RunE that asks a node and prints its answer, JSON, as show writes it.
func printed[Answer any](method, path string, show func(io.Writer, Answer) error) func(*cobra.Command, []string) error {
	return asOperator(func(cmd *cobra.Command, op *operator, _ []string) error {
		var answer Answer
		if err := op.getJSON(cmd.Context(), method, path, &answer); err != nil {
			return err
		}
		return show(cmd.OutOrStdout(), answer)
	})
}

// operatorTimeout bounds the way to a node.
const operatorTimeout = 5 * time.Second

// do calls the node and, where only the leader can answer, the leader that the node names. body may be
// called twice. The caller closes the answer's body.
func (o *operator) do(ctx context.Context, method, path string,
	body func() (io.ReadCloser, error)) (*http.Response, error) {
	node := o.node
	for {
		var content io.ReadCloser
		if body != nil {
			var err error
			if content, err = body(); err != nil {
				return nil, err
			}
		}
		req, err := http.NewRequestWithContext(ctx, method, "https://"+node+path, content)
		if err != nil {
			return nil, err
		}
		resp, err := o.client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("ask the node at %s: %w", node, err)
		}
		if resp.StatusCode == http.StatusOK {
			return resp, nil
		}
		message, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		_ = resp.Body.Close()
		leader := resp.Header.Get(cluster.LeaderHeader)
		if leader == "" || node != o.node {
			return nil, fmt.Errorf("the node at %s: %s", node, strings.TrimSpace(string(message)))
		}
		node = leader
	}
}

// order has the region do something that is not answered.
func (o *operator) order(ctx context.Context, path string, query url.Values) error {
	resp, err := o.do(ctx, http.MethodPost, path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// tell makes a call and prints the text that it answers.
func (o *operator) tell(cmd *cobra.Command, method, path, format string) error {
	var text string
	if err := o.getJSON(cmd.Context(), method, path, &text); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), format, text)
	return nil
}

// getJSON makes a call without a body and decodes the answer.
func (o *operator) getJSON(ctx context.Context, method, path string, into any) error {
	resp, err := o.do(ctx, method, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// postJSON posts a value to the node and decodes its answer.
func (o *operator) postJSON(ctx context.Context, path string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := o.do(ctx, http.MethodPost, path, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b)), nil
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}
