// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/revision"
)

var (
	// errNoAnswer is the answer that was lost on the way.
	errNoAnswer = errors.New("connection reset by peer")
	// errDead answers all requests of a process that has died: none of them is ever made.
	errDead = errors.New("the process is dead")
)

// fault is what goes wrong with one write.
type fault int

const (
	noFault      fault = iota
	failBefore         // refused with 500, nothing happened
	conflict           // refused with 409
	loseAnswer         // done, and the answer is lost
	crashBefore        // the process dies, nothing happened
	crashAfter         // it dies when it is done
	tooMany            // refused with 429
	faultsNumber       // their number
)

var faultNames = [faultsNumber]string{"", "500", "409", "lost answer", "crash before", "crash after", "429"}

// apiClient is the client of one process: it reads its view, and first catches up with what it wrote itself; it writes to
// the store. Methods that the reconciler does not use are not there.
type apiClient struct {
	client.Client
	w    *World
	view *view
	// written is how much of each log the process must see because it wrote it.
	written [kinds]int
	// dead says that the process died in the middle of a reconcile.
	dead bool
}

func (c *apiClient) catchUp(k kind) {
	if c.w.bug == noReadYourWrites {
		return
	}
	for c.view.seen[k] < c.written[k] {
		c.w.deliver(k)
	}
}

func (c *apiClient) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if c.dead {
		return errDead
	}
	k := kindOf(into)
	c.catchUp(k)
	o := c.view.objects[k][key.Name]
	if o == nil {
		return apierrors.NewNotFound(resources[k], key.Name)
	}
	assign(into, o)
	if k == sets {
		c.w.observed(o.(*appsv1beta1.CloneSet))
	}
	return nil
}

func (c *apiClient) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	if c.dead {
		return errDead
	}
	o := (&client.ListOptions{}).ApplyOptions(opts)
	switch l := into.(type) {
	case *corev1.PodList:
		for _, p := range c.list(pods, o) {
			pd := *p.(*corev1.Pod)
			if c.w.bug == trustsStaleStatus {
				pd = *believed(&pd)
			}
			l.Items = append(l.Items, pd)
		}
		c.w.listed()
	case *corev1.PersistentVolumeClaimList:
		for _, p := range c.list(claims, o) {
			l.Items = append(l.Items, *p.(*corev1.PersistentVolumeClaim))
		}
	case *appsv1.ControllerRevisionList:
		for _, p := range c.list(revisions, o) {
			l.Items = append(l.Items, *p.(*appsv1.ControllerRevision))
		}
	default:
		return fmt.Errorf("the simulation lists no %T", into)
	}
	return nil
}

func (c *apiClient) list(k kind, o *client.ListOptions) []client.Object {
	c.catchUp(k)
	var out []client.Object
	for _, name := range slices.Sorted(maps.Keys(c.view.objects[k])) {
		if obj := c.view.objects[k][name]; matches(obj, o) {
			out = append(out, obj)
		}
	}
	return out
}

func matches(obj client.Object, o *client.ListOptions) bool {
	if o.LabelSelector != nil && !o.LabelSelector.Matches(labelSet(obj)) {
		return false
	}
	if o.FieldSelector == nil {
		return true
	}
	if uid, ok := o.FieldSelector.RequiresExactMatch(pod.OwnerUIDField); ok && !slices.Contains(pod.OwnerUIDs(obj), uid) {
		return false
	}
	if uid, ok := o.FieldSelector.RequiresExactMatch(revision.ControllerField); ok && !slices.Contains(revision.Controller(obj), uid) {
		return false
	}
	return true
}

// assign copies an object into what a caller passed.
func assign(into, from client.Object) {
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from.DeepCopyObject()).Elem())
}

func (c *apiClient) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	k := kindOf(o)
	if p, ok := o.(*corev1.Pod); ok && c.w.bug == randomNames {
		p.Name = fmt.Sprintf("%s-%05d", setName, c.w.rng.IntN(100000))
		p.Labels[appsv1beta1.CloneSetInstanceID] = p.Name[len(setName)+1:]
	}
	return c.write(request{verb: "create", kind: k, name: o.GetName()}, func() (client.Object, client.Object, error) {
		stored, err := c.w.store.create(o)
		return nil, stored, err
	}, o)
}

func (c *apiClient) Delete(_ context.Context, o client.Object, opts ...client.DeleteOption) error {
	k := kindOf(o)
	options := (&client.DeleteOptions{}).ApplyOptions(opts)
	if c.w.bug == noPreconditions {
		options.Preconditions = nil
	}
	return c.write(request{verb: "delete", kind: k, name: o.GetName()}, func() (client.Object, client.Object, error) {
		before := c.w.store.objects[k][o.GetName()]
		after, err := c.w.store.delete(k, o.GetName(), options)
		return before, after, err
	}, nil)
}

func (c *apiClient) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.PatchOption) error {
	return c.patch(o, p, "")
}

func (c *apiClient) patch(o client.Object, p client.Patch, subresource string) error {
	k := kindOf(o)
	if c.w.bug == noPreconditions && k == pods {
		p = withoutPreconditions(p, o)
	}
	return c.write(request{verb: "patch", kind: k, name: o.GetName(), subresource: subresource}, func() (client.Object, client.Object, error) {
		return c.w.store.patch(k, o.GetName(), subresource, p, o)
	}, o)
}

// write makes a request with whatever goes wrong with it. The answer is decoded into answer, if there is one.
func (c *apiClient) write(r request, do func() (before, after client.Object, err error), answer client.Object) error {
	if c.dead {
		return errDead
	}
	f := c.w.nextFault(r)
	switch f {
	case failBefore:
		return apierrors.NewInternalError(errors.New("simulated"))
	case tooMany:
		return apierrors.NewTooManyRequests("simulated", 1)
	case conflict:
		return apierrors.NewConflict(resources[r.kind], r.name, errors.New("simulated"))
	case crashBefore:
		c.dead = true
		return errDead
	}
	logged := len(c.w.store.log[r.kind])
	before, after, err := do()
	c.w.wrote(r, before, after, err, len(c.w.store.log[r.kind]) > logged)
	switch f {
	case crashAfter:
		c.dead = true
		return errDead
	case loseAnswer:
		if err == nil {
			return errNoAnswer
		}
	}
	if err != nil {
		return err
	}
	c.written[r.kind] = len(c.w.store.log[r.kind])
	if answer != nil && after != nil {
		assign(answer, after)
	}
	return nil
}

func (c *apiClient) Status() client.SubResourceWriter { return &subresource{c: c, name: "status"} }

func (c *apiClient) SubResource(name string) client.SubResourceClient {
	return &subresource{c: c, name: name}
}

type subresource struct {
	client.SubResourceClient
	c    *apiClient
	name string
}

func (s *subresource) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
	return s.c.patch(o, p, s.name)
}

// liveReader reads the store.
type liveReader struct {
	client.Reader
	w *World
}

func (l *liveReader) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if l.w.client.dead {
		return errDead
	}
	k := kindOf(into)
	if l.w.bug == staleLiveReads {
		o := l.w.client.view.objects[k][key.Name]
		if o == nil {
			return apierrors.NewNotFound(resources[k], key.Name)
		}
		assign(into, o)
		return nil
	}
	o, err := l.w.store.get(k, key.Name)
	if err != nil {
		return err
	}
	assign(into, o)
	return nil
}
