// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// A queue of an idle node is served for ever; one whose workers hang makes the agent unhealthy after minutes, and worth
// ending only after hours.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agent{}
		hang := make(chan struct{})
		p := a.pulseOf("q", reconcile.Func(func(_ context.Context, req reconcile.Request) (reconcile.Result, error) {
			if req == beat {
				t.Error("a beat reached the reconciler")
			}
			<-hang
			return reconcile.Result{}, nil
		}))
		a.checks, a.vital = []check{{"queues", a.queues(slowAfter)}}, []check{{"queues", a.queues(deadAfter)}}
		expect := func(when string, healthy, alive bool) {
			t.Helper()
			for path, want := range map[string]bool{"/healthz": healthy, "/readyz": healthy, "/livez": alive} {
				w := httptest.NewRecorder()
				a.healthHandlers()[path].ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				text, _ := io.ReadAll(w.Body)
				if got := w.Code == http.StatusOK; got != want || !got && !strings.Contains(string(text), "check queues failed, err: queue q: no worker") {
					t.Errorf("%s: %s: %d %s", when, path, w.Code, text)
				}
			}
		}
		expect("before the start", true, true)
		ctx, cancel := context.WithCancel(t.Context())
		q := workqueue.NewTypedRateLimitingQueue(backoff())
		if err := p.source().Start(ctx, q); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				req, ended := q.Get()
				if ended {
					return
				}
				_, _ = p.Reconcile(ctx, req)
				q.Done(req)
			}
		}()
		time.Sleep(24 * time.Hour)
		expect("idle for a day", true, true)
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: "long"}})
		time.Sleep(slowAfter - time.Minute)
		expect("busy", true, true)
		time.Sleep(2 * time.Minute)
		expect("busy for long", false, true)
		time.Sleep(deadAfter)
		expect("busy for ever", false, false)
		close(hang)
		synctest.Wait()
		expect("done", true, true)
		cancel()
		q.ShutDown()
	})
}
