// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	policyv1alpha1 "kruise.io/kruise/api/policy/v1alpha1"
	policyv1beta1 "kruise.io/kruise/api/policy/v1beta1"
	rolloutsv1alpha1 "kruise.io/kruise/api/rollouts/v1alpha1"
	rolloutsv1beta1 "kruise.io/kruise/api/rollouts/v1beta1"
	"kruise.io/kruise/internal/conversion"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/internal/podadmission"
)

type podMutator = podadmission.Mutator

// Lives of the certificates we make (security 5.5).
const (
	caLife   = 730 * day
	leafLife = 90 * day
)

// newScheme knows built-in kinds, CRDs and all versions of our kinds, which conversion needs even where no feature does.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, apixv1.AddToScheme,
		appsv1alpha1.AddToScheme, appsv1beta1.AddToScheme,
		policyv1alpha1.AddToScheme, policyv1beta1.AddToScheme,
		rolloutsv1alpha1.AddToScheme, rolloutsv1beta1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("registering types: %w", err)
		}
	}
	return s, nil
}

// Endpoint is where the apiserver finds this manager's webhooks.
func (m *Manager) Endpoint() webhooks.Endpoint {
	port := m.opts.Webhook.Port
	if port == 0 && m.hooks != nil {
		port = m.hooks.server.Port()
	}
	return webhooks.Endpoint{
		Host: m.opts.Webhook.Host, Port: port,
		ServiceNamespace: m.opts.PodNamespace, ServiceName: m.opts.Webhook.ServiceName,
	}
}

// webhookSide serves webhooks and keeps their certificates and the cluster's configurations. A process without webhooks
// (--enable-webhooks=false) has none.
type webhookSide struct {
	server   *webhooks.Server
	keeper   *certs.Keeper
	loop     *webhooks.Loop
	injector *webhooks.Injector
}

// always is closed: what a process without webhooks waits for before its controllers start.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// first is closed when webhooks are in order: what controllers write has to pass them. Elsewhere the apiserver tells.
func (w *webhookSide) first() <-chan struct{} {
	if w == nil {
		return always
	}
	return w.loop.First()
}

func (w *webhookSide) close() error {
	if w == nil {
		return nil
	}
	return w.server.Close()
}

// check asks our own webhook server.
func (w *webhookSide) check(ctx context.Context) error {
	return webhooks.Check(ctx, w.server.Port(), "localhost", w.keeper.Roots())
}

// preparePlatform makes what works before any object of ours can be read: a live client, the cache of CRDs, and, if this
// process serves webhooks, their side.
func (m *Manager) preparePlatform(cfg *rest.Config, scheme *runtime.Scheme) error {
	component := rest.CopyConfig(cfg)
	component.UserAgent = userAgent + "/webhook-controller"
	shared, err := mapperFor(component, scheme)
	if err != nil {
		return err
	}
	if m.live, err = client.New(component, shared); err != nil {
		return err
	}
	if m.platform, err = newPlatformCache(component, m.opts, shared); err != nil {
		return err
	}
	if m.opts.EnableWebhooks {
		return m.prepareWebhooks()
	}
	return nil
}

// prepareWebhooks makes the server and what keeps its certificates and the cluster's configurations.
func (m *Manager) prepareWebhooks() error {
	o, w := m.opts, &webhookSide{}
	w.keeper = &certs.Keeper{
		Store:    certs.Secret{Client: m.live, Namespace: o.PodNamespace, Name: o.Webhook.SecretName},
		Policy:   o.certPolicy(),
		External: o.Gates.Enabled(gates.EnableExternalCerts),
		Dir:      o.Webhook.CertDir,
		Log:      m.log.WithName("certs"),
	}
	if !w.keeper.External && (o.Webhook.CertWriter == "fs" || o.Webhook.Host != "" && o.Webhook.CertWriter == "") {
		w.keeper.Store = certs.Files{Dir: o.Webhook.CertDir}
	}
	addr := o.Webhook.ListenAddr
	if addr == "" {
		addr = net.JoinHostPort("0.0.0.0", strconv.Itoa(o.Webhook.Port))
	}
	var err error
	w.server, err = webhooks.NewServer(webhooks.ServerOptions{
		Addr:           addr,
		GetCertificate: w.keeper.GetCertificate,
		MinVersion:     o.Webhook.TLSMinVersion, CipherSuites: o.Webhook.CipherSuites, HTTP2: o.Webhook.EnableHTTP2,
		ClientCAFile: o.Webhook.ClientCAFile, Log: m.log.WithName("webhooks"),
	})
	if err != nil {
		return err
	}
	m.hooks = w
	w.injector = &webhooks.Injector{
		Reader: m.platform, Writer: m.live, Endpoint: m.Endpoint(), Gates: o.Gates, OwnNamespace: o.PodNamespace, DaemonNamespace: o.DaemonNamespace,
		ReadOnly: w.keeper.External, Leads: m.leads.Load, Log: m.log.WithName("webhooks"),
		Served: m.served.Served, NarrowDelay: o.Webhook.NarrowDelay,
		Wake: func(d time.Duration) { time.AfterFunc(d, w.loop.Trigger) },
	}
	w.keeper.Publisher = w.injector
	if o.brokers() {
		w.keeper.Publisher = &caForAgents{Publisher: w.injector, client: m.live, namespace: o.DaemonNamespace, log: m.log}
	}
	w.loop = webhooks.NewLoop(w.keeper, m.log.WithName("webhooks"))
	if w.keeper.External {
		w.loop.Report = m.reportCertificate
	}
	expires := w.keeper.Expiry
	certificate.at.Store(&expires)
	return nil
}

// reportCertificate tells whoever looks at the Secret of external certificates what is wrong with them, or with the CA in
// what they are for (platform W7).
func (m *Manager) reportCertificate(problem error) {
	ctx, cancel := context.WithTimeout(context.Background(), reachTimeout)
	defer cancel()
	obj := &corev1.Secret{}
	if err := m.live.Get(ctx, client.ObjectKey{Namespace: m.opts.PodNamespace, Name: m.opts.Webhook.SecretName}, obj); err != nil {
		return // there is nothing to tell it at; the log and readiness have it
	}
	ref := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: obj.Namespace, Name: obj.Name, UID: obj.UID}}
	ref.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	m.mgr.GetEventRecorder("kruise-manager").Eventf(ref, nil, corev1.EventTypeWarning, "WebhooksNotInOrder", "CheckCertificates", "%.1000s", problem.Error())
}

// certPolicy requires the host or the Service, and localhost for our own health check (platform 5.3). What we make has
// the short form of the Service's name, too.
func (o *Options) certPolicy() certs.Policy {
	service := o.Webhook.ServiceName + "." + o.PodNamespace
	names, more := []string{service + ".svc", "localhost"}, []string{service}
	if o.Webhook.Host != "" {
		names, more = []string{o.Webhook.Host, "localhost"}, nil
	}
	if o.Webhook.Host == "localhost" {
		names = names[:1]
	}
	return certs.Policy{
		Names: names, MoreNames: more, CALife: caLife, LeafLife: leafLife, RenewBefore: o.Webhook.RenewBefore,
		Settle: o.Webhook.SettleTime, Overlap: o.Webhook.OverlapTime,
	}
}

// registerWebhooks serves every webhook of the inventory that is enabled, and conversion.
func (m *Manager) registerWebhooks(handlers map[string]http.Handler, pods podadmission.Chain) error {
	handlers["/mutate-pod"] = Admission(pods)
	for _, e := range webhooks.Inventory() {
		if !e.Enabled(m.opts.Gates) {
			continue
		}
		h, ok := handlers[e.Path]
		if !ok {
			return fmt.Errorf("no handler for webhook %s at %s", e.Name, e.Path)
		}
		m.hooks.server.Register(e.Path, h)
	}
	m.hooks.server.Register(webhooks.ConvertPath, conversion.Handler())
	if h, ok := handlers[credentials.BrokerPath]; ok {
		m.hooks.server.Register(credentials.BrokerPath, h)
	}
	return nil
}

// Admission serves a handler. Panics are left to the server, which counts them and answers 500. The audit log tells
// what was decided, under the webhook's name and "decision" (security 5.11).
func Admission(h admission.Handler) http.Handler {
	return (&admission.Webhook{Handler: admission.HandlerFunc(func(ctx context.Context, req admission.Request) admission.Response {
		resp := bothVersions(ctx, h, req)
		decision := "allowed"
		switch {
		case !resp.Allowed:
			decision = "denied"
		case len(resp.Patches)+len(resp.Patch) > 0:
			decision = "mutated"
		}
		if resp.AuditAnnotations == nil {
			resp.AuditAnnotations = map[string]string{}
		}
		resp.AuditAnnotations["decision"] = decision
		return resp
	})}).WithRecoverPanic(false)
}
