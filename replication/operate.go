package replication

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"coffer/cluster"
	"coffer/fsm"
	"coffer/iam"
	"coffer/mistake"
	"coffer/refusal"
	"coffer/secret"
	"coffer/serving"
)

// RegionStatus is what this region knows of itself and the others.
type RegionStatus struct {
	Region string       `json:"region"`
	Epoch  int64        `json:"epoch"`
	KeyID  string       `json:"replication_key,omitempty"`
	Others []PeerStatus `json:"others"`
}

// PeerStatus is what this region knows of another one. Times are milliseconds since 1970.
type PeerStatus struct {
	Region     string               `json:"region"`
	Nodes      []cluster.RegionNode `json:"nodes"`
	Down       int64                `json:"down_since,omitempty"`
	Why        string               `json:"why,omitempty"`
	KeyID      string               `json:"pinned_key,omitempty"`
	Links      int                  `json:"links"`   // of secrets here to the region
	Lagging    int                  `json:"lagging"` // of them
	Failed     int                  `json:"failed"`  // of them
	Oldest     int64                `json:"oldest_change,omitempty"`
	Replicas   int                  `json:"replicas"` // here, of secrets there
	Report     fsm.Report           `json:"report"`   // what the region last said of its outbox to here
	Successors []string             `json:"successors,omitempty"`
}

// Status describes this region and the others.
func (a *Agent) Status(ctx context.Context) (*RegionStatus, error) {
	out := &RegionStatus{Region: a.base.Region, Others: []PeerStatus{}}
	nodes := a.cluster.Regions()
	regions := append(a.others(), a.base.Region)
	slices.Sort(regions)
	err := a.base.Read(a.operator(ctx, ""), func(v *serving.View) error {
		out.Others = out.Others[:0]
		out.Epoch = v.State.Epoch
		if keys := v.ReplicationKeys(); len(keys) > 0 {
			out.KeyID = keys[0].ID
		}
		for _, region := range regions {
			p := v.Peer(region)
			s := PeerStatus{
				Region: region, Nodes: nodes[region], Down: p.Down, Why: p.Why, KeyID: p.KeyID, Report: p.Report,
				Successors: p.Successors,
			}
			v.Links(region, func(_ string, _ *secret.Secret, l *secret.Link) bool {
				s.Links++
				if l.Failed != "" {
					s.Failed++
				}
				return true
			})
			v.Replicas(region, func(*secret.Secret, *secret.Replica) bool { s.Replicas++; return true })
			r := report(v.Tx, region, 0)
			s.Lagging, s.Oldest = r.Lagging, r.Oldest
			out.Others = append(out.Others, s)
		}
		return nil
	})
	return out, err
}

func (a *Agent) operator(ctx context.Context, account string) context.Context {
	return serving.WithCall(ctx, &serving.Call{Principal: iam.Root(account)})
}

// RotateKey gives the region another key pair for what is sent to it, and answers its id.
func (a *Agent) RotateKey(ctx context.Context) (string, error) { return a.keys.rotate(ctx) }

// Trust accepts the key of a region as it is now, whatever was pinned before, and answers its id.
func (a *Agent) Trust(ctx context.Context, region string) (string, error) {
	answer := &welcome{}
	if err := a.cluster.CallRegion(ctx, region, helloPath, helloTimeout, &hello{}, answer); err != nil {
		return "", err
	}
	if _, err := kem.NewPublicKey(answer.Public); err != nil {
		return "", err
	}
	_, err := a.base.Propose(ctx, &fsm.SetPeer{
		Region: region, At: a.base.Millis(), KeyID: answer.KeyID, Public: answer.Public, Epoch: answer.Epoch,
	})
	return answer.KeyID, err
}

// Reach fails when no node of another region answers.
func (a *Agent) Reach(ctx context.Context, region string) error {
	return a.cluster.ReachRegion(ctx, region, comparePath, helloTimeout, &comparison{Ranges: []byte{}})
}

// SetSuccessors says which regions may take over, here, secrets whose primary is or was in a region.
func (a *Agent) SetSuccessors(ctx context.Context, region string, by []string) error {
	_, err := a.base.Propose(ctx, &fsm.SetSuccessors{Region: region, By: by})
	return err
}

// Selection chooses secrets for a listing.
type Selection struct {
	// of their primary, or that they were promoted from; or that they are replicated to
	Region string `json:"region"`
	Linked bool   `json:"linked"`         // secrets with a link to Region, instead of its replicas
	Prefix string `json:"prefix"`         // of their names
	After  []byte `json:"after,omitzero"` // where the last page ended
}

// Item is one secret of a listing. Times are milliseconds since 1970.
type Item struct {
	Account    string   `json:"account"`
	Name       string   `json:"name"`
	Suffix     string   `json:"suffix"`
	Primary    string   `json:"primary,omitempty"` // region of its primary; empty here
	Origin     string   `json:"origin,omitempty"`  // region that it was promoted from
	Replicas   []string `json:"replicas,omitempty"`
	KeyID      string   `json:"key_id,omitempty"`
	Epoch      int64    `json:"epoch,omitempty"`
	Revision   uint64   `json:"revision,omitempty"` // of the primary, the last one received
	ChangedAt  int64    `json:"changed_at,omitempty"`
	ReceivedAt int64    `json:"received_at,omitempty"`
	Acked      uint64   `json:"acked,omitempty"`  // with Linked: the last revision that Region acknowledged
	Failed     string   `json:"failed,omitempty"` // with Linked: why Region refuses it
}

// Page is a part of a listing, and where it ends; Next is empty at the end.
type Page struct {
	Items []Item `json:"items"`
	Next  []byte `json:"next,omitempty"`
}

const pageItems = 500

// List lists secrets that are about a region.
func (a *Agent) List(ctx context.Context, sel *Selection) (*Page, error) {
	var out *Page
	account := ""
	if err := a.base.Store.View(func(tx *fsm.Tx) error {
		c, _ := tx.Cluster()
		account = c.Account
		return nil
	}); err != nil {
		return nil, err
	}
	err := a.base.Read(a.operator(ctx, account), func(v *serving.View) error {
		out = &Page{Items: []Item{}}
		out.Next = v.Secrets(fsm.List{Account: account, Order: fsm.ByName, NamePrefix: sel.Prefix, Cursor: sel.After},
			func(s *secret.Secret) bool {
				if item, chosen := sel.item(v, s); chosen {
					out.Items = append(out.Items, item)
				}
				return len(out.Items) < pageItems
			})
		return nil
	})
	return out, err
}

func (sel *Selection) item(v *serving.View, s *secret.Secret) (Item, bool) {
	item := Item{
		Account: s.Account, Name: s.Name, Suffix: s.Suffix, Primary: s.Primary, Replicas: s.Replicas, KeyID: s.KeyID,
	}
	if s.Origin != nil {
		item.Origin = s.Origin.Region
	}
	if sel.Linked {
		l := (*secret.Link)(nil)
		for _, region := range s.Replicas {
			if region == sel.Region {
				l = v.Link(region, s)
			}
		}
		if l == nil {
			return item, false
		}
		item.Acked, item.Failed = l.Acked, l.Failed
		return item, true
	}
	if r := v.Replica(s); r != nil && s.Primary == sel.Region {
		item.Epoch, item.Revision, item.ChangedAt, item.ReceivedAt = r.Epoch, r.Revision, r.ChangedAt, r.ReceivedAt
		return item, true
	}
	if item.Origin == sel.Region && s.Primary == "" {
		item.Epoch, item.Revision = s.Origin.Epoch, s.Origin.Revision
		return item, true
	}
	return item, false
}

// Task is what is to be done with one secret.
type Task struct {
	Account string            `json:"account"`
	Name    string            `json:"name"`
	Suffix  string            `json:"suffix"`
	Links   map[string]string `json:"links,omitempty"` // replica region -> KMS key there
}

// Work is one step over secrets: promote those whose primary is in Region, replicate them to Region, or hand them
// over to it.
type Work struct {
	Do     string `json:"do"`
	Region string `json:"region"`
	Tasks  []Task `json:"tasks"`
}

// What Work does.
const (
	DoPromote   = "promote"
	DoReplicate = "replicate"
	DoHandOver  = "hand-over"
)

// Done says, for each task, why it could not be done; empty where it is done.
type Done struct {
	Refused []string `json:"refused"`
}

// tasksAtOnce bounds the commands that one step has under way.
const tasksAtOnce = 64

// Carry carries out one step. A task that was done before is done.
func (a *Agent) Carry(ctx context.Context, w *Work) (*Done, error) {
	out := &Done{Refused: make([]string, len(w.Tasks))}
	var g errgroup.Group
	g.SetLimit(tasksAtOnce)
	for i := range w.Tasks {
		g.Go(func() error {
			err := mistake.Catch(a.log, "a task failed by a mistake in the code", func() error {
				return a.carry(ctx, w, &w.Tasks[i])
			})
			if refused := refusal.Of(err); refused != nil {
				out.Refused[i] = refused.Message
				return nil
			}
			return err
		})
	}
	return out, g.Wait()
}

func (a *Agent) carry(ctx context.Context, w *Work, t *Task) error {
	_, err := a.base.Write(a.operator(ctx, t.Account), func(v *serving.View) (fsm.Command, error) {
		s := v.ByName(t.Account, t.Name)
		if s == nil || s.Suffix != t.Suffix {
			return nil, secret.ErrNotFound
		}
		ref := fsm.Ref{Account: s.Account, Name: s.Name, Suffix: s.Suffix}
		switch w.Do {
		case DoPromote:
			if s.Primary == "" && s.Origin != nil && s.Origin.Region == w.Region { // before; perhaps not all could be asked then
				links := slices.DeleteFunc(a.newLinks(t.Links), func(l secret.NewLink) bool {
					return slices.Contains(s.Replicas, l.Region)
				})
				if len(links) == 0 {
					return nil, nil
				}
				return &fsm.AddLinks{Ref: ref, At: v.Millis(), Links: links}, nil
			}
			return &fsm.Promote{Ref: ref, At: v.Millis(), Links: a.newLinks(t.Links), Lost: w.Region}, nil
		case DoReplicate:
			if s.Primary == w.Region {
				return nil, nil
			}
			return &fsm.AddLinks{
				Ref: ref, At: v.Millis(), Links: a.newLinks(map[string]string{w.Region: t.Links[w.Region]}),
			}, nil
		case DoHandOver:
			if s.Primary == w.Region {
				return nil, nil
			}
			links := map[string]string{v.Region: s.KeyID}
			for _, region := range s.Replicas {
				if region != w.Region {
					links[region] = v.Link(region, s).KeyID
				}
			}
			return &fsm.HandOver{Ref: ref, At: v.Millis(), To: w.Region, Links: a.newLinks(links)}, nil
		}
		return nil, refusal.Errorf(refusal.KindValidation, "There is no step %q.", w.Do)
	})
	return err
}

func (a *Agent) newLinks(keys map[string]string) (links []secret.NewLink) {
	for _, region := range slices.Sorted(maps.Keys(keys)) {
		id := uuid.Must(uuid.NewRandomFromReader(a.base.Random)) // a source of randomness that ends is no such source
		links = append(links, secret.NewLink{ID: id.String(), Region: region, KeyID: keys[region]})
	}
	return links
}
