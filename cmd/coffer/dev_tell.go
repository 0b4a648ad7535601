package main

import (
	"fmt"
	"strings"
	"time"
)

// tell writes an event to the terminal of `coffer dev`.
func (d *dev) tell(format string, args ...any) {
	d.telling.Lock()
	defer d.telling.Unlock()
	fmt.Fprintf(d.out, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// tellEnded says that a node ended though nobody told it to, and how to start it again.
func (d *dev) tellEnded(p *devServer, ch *child) {
	d.tell("%v\nStart it again:\n  %s %s %s", &endedError{p, ch}, d.config.self, verbStart, d.short(p))
}

// exports are the variables that make the AWS CLI and SDKs use an endpoint.
func exports(endpoint string) string {
	return fmt.Sprintf("export AWS_ENDPOINT_URL_SECRETS_MANAGER=%s AWS_ENDPOINT_URL_KMS=%s", endpoint, endpoint)
}

// explain tells what to paste.
func (d *dev) explain() {
	d.telling.Lock()
	defer d.telling.Unlock()
	c, out := &d.config, d.out
	first := c.regions[0]
	fmt.Fprintf(out, `Coffer runs with %d node(s) in %s; its data is in %s

  %s
  export AWS_ACCESS_KEY_ID=%s
  export AWS_SECRET_ACCESS_KEY=%s
  export AWS_REGION=%s AWS_DEFAULT_REGION=%s

  aws secretsmanager create-secret --name my/first --secret-string 'correct horse'
`, c.nodes, strings.Join(c.regions, ", "), c.dir, exports(d.endpoint(first)),
		d.credentials.AccessKeyID, d.credentials.SecretAccessKey, first, first)
	for _, region := range c.regions[1:] {
		fmt.Fprintf(out, `
Replicate it to %s, and read it there:

  aws secretsmanager replicate-secret-to-regions --secret-id my/first --add-replica-regions Region=%s
  aws secretsmanager get-secret-value --secret-id my/first --region %s --endpoint-url %s
`, region, region, region, d.endpoint(region))
	}
	fmt.Fprintf(out, "\nLook at the cluster:  %s cluster members --config %s\n",
		selfName(), shellQuote(c.path(first, operatorYAML)))
	if len(c.regions) > 1 {
		fmt.Fprintf(out, "Look at the regions:  %s regions status --config %s\n",
			selfName(), shellQuote(c.path(first, operatorYAML)))
	}
	if len(d.nodes) > 1 {
		fmt.Fprintf(out, "Lose a node:          %s kill %s   (then status, start; see --help)\n",
			c.self, d.short(d.nodes[0]))
	}
	fmt.Fprintln(out, "Ctrl-C stops it.")
}

// endpoint is that of the region's first node that runs.
func (d *dev) endpoint(region string) string {
	for _, p := range d.nodes {
		if v := d.look(p); p.region == region && v.state == nodeRuns {
			return v.endpoint
		}
	}
	return ""
}

// shellQuote writes a word so that a shell reads it as it is.
func shellQuote(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
