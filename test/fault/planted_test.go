// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// planted are bugs by name, one or more for each class of faults, with the invariant that must report each and what has to
// happen for it to show.
var planted = map[string]struct {
	class     string
	invariant string
	bug       func() *Bug
	play      func(w *World)
}{
	"a create whose answer is lost is repeated under another name": {
		"lost answers", Surge, randomNames,
		func(w *World) {
			w.Manager.Proxy.Lag(2*time.Second, On("watch", "pods"))
			w.Manager.Proxy.Inject("answer lost", First(6, On("create", "pods"), LoseAnswer()))
			w.create(w.cloneSet("web", 3))
			w.Rest("created", func(ctx context.Context) error { return w.rolledOut(ctx, "web") })
		},
	},
	"deletes carry no uid":             {"stale cache", KeptPods, noUID, timeTravel},
	"patches carry no resourceVersion": {"second writer", Liveness, noVersion, moreToDelete},
	"the successor forgets the budget": {
		"crash", Availability, forgetfulSuccessor(),
		func(w *World) {
			s := inPlace(4, 1)
			s.Run(w)
			s.Sweep(w, 3, 2, 2)
		},
	},
	"claims are made without their owner": {
		"garbage", NoOrphans, disowned,
		func(w *World) {
			w.volumes(3)
			w.create(w.cloneSet("web", 3, w.claim("data")))
			w.settle("web")
			w.change("web", func(cs *appsv1beta1.CloneSet) { cs.Spec.Replicas = new(int32(1)) })
			w.Rest("scaled in", func(ctx context.Context) error { return w.rolledOut(ctx, "web") })
		},
	},
	"unavailable pods are counted as available": {
		"rules", Availability, greedy,
		func(w *World) {
			s := inPlace(4, 1)
			s.Run(w)
			s.round(w, 1, func() {}, nil)
		},
	},
	"what could be updated in place is recreated": {
		"rules", KeptPods, recreates,
		func(w *World) {
			s := inPlace(3, 1)
			s.Run(w)
			s.round(w, 1, func() {}, nil)
		},
	},
	"the status is embellished": {
		"status", Truth, liar,
		func(w *World) {
			w.create(w.cloneSet("web", 2))
			w.settle("web")
		},
	},
	"the status is written again and again": {
		"fixed point", FixedPoint, restless,
		func(w *World) {
			w.create(w.cloneSet("web", 2))
			w.settle("web")
		},
	},
}

// TestPlantedBugs proves that the harness finds what it is there to find.
func TestPlantedBugs(t *testing.T) {
	t.Parallel()
	for name, p := range planted {
		t.Run(p.class+"/"+strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			p.play(NewWorld(t, host, Planted(p.invariant, p.bug)))
		})
	}
}

func randomNames() *Bug {
	return &Bug{Name: "random names", Request: func(r *Request, body map[string]any) bool {
		if r.Verb == "create" && r.Resource == "pods" {
			meta := field(body, "metadata")
			name, _ := meta["name"].(string)
			meta["name"] = name[:strings.LastIndexByte(name, '-')+1] + strings.ToLower(rand.Text()[:5])
		}
		return false
	}}
}

func noUID() *Bug {
	return &Bug{Name: "no uid", Request: func(r *Request, body map[string]any) bool {
		if r.Verb == "delete" {
			delete(body, "preconditions")
		}
		return false
	}}
}

func noVersion() *Bug {
	return &Bug{Name: "no resourceVersion", Request: func(r *Request, body map[string]any) bool {
		if r.Verb == "patch" {
			delete(field(body, "metadata"), "resourceVersion")
		}
		return false
	}}
}

// rollingUpdate changes what the controller reads of a CloneSet's strategy.
func rollingUpdate(name string, change func(map[string]any)) *Bug {
	return &Bug{Name: name, View: func(r *Request, o map[string]any) bool {
		if ru := field(o, "spec", "updateStrategy", "rollingUpdate"); ru != nil && strings.HasPrefix(r.Resource, "clonesets") {
			change(ru)
		}
		return true
	}}
}

func forgetfulSuccessor() func() *Bug {
	lives := 0
	return func() *Bug {
		lives++
		life := lives
		return rollingUpdate("forgetful successor", func(ru map[string]any) {
			if life > 1 {
				ru["maxUnavailable"] = "100%"
			}
		})
	}
}

func disowned() *Bug {
	return &Bug{Name: "disowned", Request: func(r *Request, body map[string]any) bool {
		if r.Verb == "create" && r.Resource == "persistentvolumeclaims" {
			delete(field(body, "metadata"), "ownerReferences")
		}
		return false
	}}
}

func greedy() *Bug {
	return rollingUpdate("greedy", func(ru map[string]any) { ru["maxUnavailable"] = 3 })
}

func recreates() *Bug {
	return rollingUpdate("recreates", func(ru map[string]any) { ru["podUpdatePolicy"] = "ReCreate" })
}

func liar() *Bug {
	return &Bug{Name: "liar", Request: func(r *Request, body map[string]any) bool {
		if status := field(body, "status"); status != nil && r.Resource == "clonesets/status" {
			if n, ok := status["readyReplicas"].(float64); ok {
				status["readyReplicas"] = n + 1
			}
		}
		return false
	}}
}

func restless() *Bug {
	return &Bug{Name: "restless", View: func(r *Request, o map[string]any) bool {
		if status := field(o, "status"); status != nil && strings.HasPrefix(r.Resource, "clonesets") && r.Verb != "patch" {
			delete(status, "observedGeneration")
		}
		return true
	}}
}
