// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node"
	"kruise.io/kruise/internal/node/cri/fakecri"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
)

// world is a test's view of the cluster: one namespace, and short names.
type world struct {
	*testing.T
	client.WithWatch
	ctx       context.Context
	namespace string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldAlone(t)
}

// newWorldAlone gives the test a namespace, but lets it not run beside others.
func newWorldAlone(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, WithWatch: shared.Client, ctx: t.Context()}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	w.must(w.Create(w.ctx, ns))
	w.namespace = ns.Name
	t.Cleanup(func() {
		if err := shared.Client.Delete(context.Background(), ns); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually waits until check returns nil.
func (w *world) eventually(what string, check func() error) {
	w.Helper()
	if err := await.Nil(w.ctx, check); err != nil {
		w.Fatalf("not %s: %v", what, err)
	}
}

// get reads an object of the test's namespace, or a cluster-scoped one, anew.
func (w *world) get(obj client.Object) {
	w.Helper()
	w.must(w.Get(w.ctx, client.ObjectKeyFromObject(obj), obj))
}

// agent is a node agent in this process. It talks to the apiserver through a gate that remembers its requests, with a
// token as the kubelet would give it: of its service account, bound to its pod and node.
type agent struct {
	w       *world
	node    string
	runtime *fakecri.Server
	dir     string
	gate    *gate
	// health is the URL of /healthz, metrics that of /metrics.
	health, metrics string
	stop            func() error
}

// options change how an agent starts.
type options func(*node.Options)

func withGates(set map[string]bool) options {
	return func(o *node.Options) {
		g, err := gates.FromMap(set)
		if err != nil {
			panic(err) // a typing error in a test
		}
		o.Gates = g
	}
}

// startAgent starts the agent of a node; a nil runtime leaves a socket that nobody serves.
func (w *world) startAgent(nodeName string, runtime *fakecri.Server, change ...options) *agent {
	w.Helper()
	dir, err := os.MkdirTemp("", "agent") // paths of sockets must be short
	w.must(err)
	w.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &agent{w: w, node: nodeName, runtime: runtime, dir: dir}
	if runtime != nil {
		runtime.Start(w.T, a.socket())
	}
	a.gate = newGate(w)
	a.start(change...)
	return a
}

func (a *agent) socket() string { return filepath.Join(a.dir, "containerd/containerd.sock") }

// start starts the agent; stop, and the end of the test, end it.
func (a *agent) start(change ...options) {
	w := a.w
	w.Helper()
	addr := freeAddr(w.T)
	o := node.Options{NodeName: a.node, Addr: addr, PprofAddr: "0", SocketDir: a.dir, ConfigNamespace: "kruise-daemon-config", Log: klog.Background()}
	withGates(nil)(&o)
	for _, c := range change {
		c(&o)
	}
	a.health, a.metrics = "http://"+addr+"/healthz", "http://"+addr+"/metrics"
	cfg := &rest.Config{Host: a.gate.url, BearerToken: w.daemonToken(a.node).Status.Token}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, cfg, o) }()
	a.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second): // S_node_agent_16
			return errors.New("the agent does not end")
		}
	})
	w.Cleanup(func() {
		if err := a.stop(); err != nil {
			w.Errorf("the agent of %s: %v", a.node, err)
		}
	})
}

// live is the URL that the kubelet asks whether to end the agent.
func (a *agent) live() string { return strings.Replace(a.health, "/healthz", "/livez", 1) }

// healthy waits until the agent says that it is.
func (a *agent) healthy() *agent {
	a.w.Helper()
	a.w.eventually("healthy", func() error {
		if code, text := body(a.health); code != http.StatusOK || text != "ok" {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	return a
}

// daemonPod returns the agent's pod on a node, which only the apiserver and the token know of.
func (w *world) daemonPod(nodeName string) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", GenerateName: "kruise-daemon-", Annotations: map[string]string{"lab.kruise.io/kubelet": "manual"}},
		Spec: corev1.PodSpec{NodeName: nodeName, ServiceAccountName: "kruise-daemon", TerminationGracePeriodSeconds: ptr.To[int64](0),
			Containers: []corev1.Container{{Name: "daemon", Image: "registry.example/kruise:v1"}}},
	}
	w.must(w.Create(w.ctx, p))
	w.Cleanup(func() {
		_ = shared.Client.Delete(context.Background(), p, client.GracePeriodSeconds(0)) // the lab ends soon
	})
	return p
}

// daemonToken asks for a token as a kubelet does for the agent's pod.
func (w *world) daemonToken(nodeName string) *authenticationv1.TokenRequest {
	w.Helper()
	return w.tokenFor(w.daemonPod(nodeName))
}

func (w *world) tokenFor(p *corev1.Pod) *authenticationv1.TokenRequest {
	w.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-daemon"}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3600),
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}}}
	w.must(w.SubResource("token").Create(w.ctx, account, request))
	return request
}

// accountToken makes a service account of the test's namespace and returns a token of it.
func (w *world) accountToken(name string) string {
	w.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	w.must(w.Create(w.ctx, account))
	request := &authenticationv1.TokenRequest{}
	w.must(w.SubResource("token").Create(w.ctx, account, request))
	return request.Status.Token
}

// apiserver returns a configuration without credentials for the apiserver.
func apiserver() *rest.Config { return rest.AnonymousClientConfig(shared.Config()) }

// gate stands between an agent and the apiserver and remembers what passes. The credentials are the agent's.
type gate struct {
	url    string
	server *http.Server
	addr   string
	proxy  http.Handler

	mu       sync.Mutex
	requests []request
	answer   func(http.ResponseWriter, *http.Request) bool
}

type request struct {
	method, path, agent string
	query               url.Values
	code                int
}

func (r request) String() string {
	return fmt.Sprintf("%s %s?%s by %s: %d", r.method, r.path, r.query.Encode(), r.agent, r.code)
}

func newGate(w *world) *gate {
	w.Helper()
	transport, err := rest.TransportFor(apiserver())
	w.must(err)
	target, err := url.Parse(apiserver().Host)
	w.must(err)
	g := &gate{}
	g.proxy = &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	g.open(w)
	w.Cleanup(func() { _ = g.server.Close() })
	return g
}

// open serves, at the same address if it was open before.
func (g *gate) open(w *world) {
	w.Helper()
	address := g.addr
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	w.must(err)
	g.addr, g.url = l.Addr().String(), "http://"+l.Addr().String()
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	go func(s *http.Server) { _ = s.Serve(l) }(g.server) // ends by Close
}

// shut breaks all connections and refuses new ones, as an apiserver that restarts.
func (g *gate) shut() { _ = g.server.Close() }

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	at := len(g.requests)
	g.requests = append(g.requests, request{method: r.Method, path: r.URL.Path, agent: r.UserAgent(), query: r.URL.Query()})
	answer := g.answer
	g.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	g.proxy.ServeHTTP(&noting{ResponseWriter: w, note: func(code int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.requests[at].code = code
	}}, r)
}

// seen returns the requests so far whose path contains a text.
func (g *gate) seen(part string) []request {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []request
	for _, r := range g.requests {
		if strings.Contains(r.path, part) {
			out = append(out, r)
		}
	}
	return out
}

func (g *gate) answers(f func(http.ResponseWriter, *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = f
}

// noting tells which status was answered.
type noting struct {
	http.ResponseWriter
	note func(int)
}

// WriteHeader implements http.ResponseWriter.
func (n *noting) WriteHeader(code int) {
	n.note(code)
	n.ResponseWriter.WriteHeader(code)
}

// Unwrap lets watches be flushed.
func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// freeAddr returns an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := cluster.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func body(address string) (int, string) {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(address)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}
