// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/internal/manager/webhooks"
)

//go:embed testdata/openkruise.yaml
var leftBehind []byte

const (
	// template is a pod template as an older library defaulted and stored it: newer defaults are missing.
	template = `{"metadata":{"creationTimestamp":null,"labels":{"app":"%[1]s"}},"spec":{"containers":[{"image":"%[2]s",` +
		`"imagePullPolicy":"IfNotPresent","name":"app","resources":{},"terminationMessagePath":"/dev/termination-log",` +
		`"terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","securityContext":{},` +
		`"terminationGracePeriodSeconds":1}}`
	podSpec = `{"nodeName":"%[3]s","readinessGates":[{"conditionType":"InPlaceUpdateReady"},{"conditionType":"KruisePodReady"}],` +
		`"containers":[{"image":"%[2]s","name":"app"}],"terminationGracePeriodSeconds":1}`
)

// leaver writes what OpenKruise left behind.
type leaver struct {
	*testing.T
	client client.Client
	node   string
	// owners are the UIDs of what was written, by name.
	owners map[string]string
}

// openKruise leaves an installation of OpenKruise behind, whose manager and agents are gone, and returns a client that knows
// what was written, and how image jobs stood.
func openKruise(t *testing.T) (c client.Client, jobs map[string]any) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apixv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	c, err = client.New(kruise.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	var nodes corev1.NodeList
	if err := c.List(t.Context(), &nodes); err != nil || len(nodes.Items) == 0 {
		t.Fatalf("%d nodes (%v)", len(nodes.Items), err)
	}
	l := &leaver{T: t, client: c, node: nodes.Items[0].Name, owners: map[string]string{}}
	l.must(install.Install(t.Context(), kruise.Config(), install.Options{SkipWebhooks: true}))
	l.store("v1alpha1") // what was written before the storage version moved is still stored like that
	for doc := range bytes.SplitSeq(leftBehind, []byte("\n---\n")) {
		l.write(l.fill(string(doc)))
	}
	l.store("v1beta1")
	jobs = imageJobs(t) // while they can be read without a manager
	l.certificates()
	l.conversion()
	l.webhooks()
	return c, jobs
}

func (l *leaver) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

var macro = regexp.MustCompile(`([A-Z_]+)\(([^)]*)\)`)

// fill replaces the macros of a document; see the head of the file.
func (l *leaver) fill(doc string) *unstructured.Unstructured {
	l.Helper()
	doc = macro.ReplaceAllStringFunc(doc, func(m string) string {
		parts := macro.FindStringSubmatch(m)
		args := append(strings.Split(parts[2], ", "), "", "")
		name, image := args[0], args[1]
		data := revisionData(name, image)
		switch parts[1] {
		case "TEMPLATE":
			return fmt.Sprintf(template, name, image)
		case "REVISION":
			return data
		case "REVISION_HASH":
			return revisionHash(data)
		case "REVISION_NAME":
			return name + "-" + revisionHash(data)
		case "OWNER":
			return fmt.Sprintf(`[{"apiVersion":"apps.kruise.io/v1alpha1","kind":"CloneSet","name":"%s","uid":"%s","controller":true,"blockOwnerDeletion":true}]`,
				name, l.owners[name])
		case "OWNER_OF":
			return fmt.Sprintf(`[{"apiVersion":"apps.kruise.io/v1alpha1","kind":"%s","name":"%s","uid":"%s","controller":true,"blockOwnerDeletion":true}]`,
				args[0], args[1], l.owners[args[1]])
		case "UID":
			return l.owners[name]
		case "POD":
			return fmt.Sprintf(podSpec, name, image, l.node)
		case "RUNNING":
			return podStatus(args[1], args[2], true)
		case "UPDATING":
			return podStatus(args[1], args[2], false)
		}
		l.Fatalf("unknown macro %s", m)
		return ""
	})
	u := &unstructured.Unstructured{}
	doc = strings.NewReplacer("name: NODE", "name: "+l.node, "names: [NODE]", "names: ["+l.node+"]",
		"2026-01-05T10:00:", time.Now().Add(-5*time.Minute).UTC().Format("2006-01-02T15:04:")).Replace(doc)
	l.must(yaml.Unmarshal([]byte(doc), &u.Object))
	return u
}

// revisionData is a revision's data with its keys sorted, and revisionHash what its name ends with, both in OpenKruise's
// form (cloneset 5.3), written down here once more so that ours is compared with something.
func revisionData(name, image string) string {
	return `{"spec":{"template":{"$patch":"replace",` + strings.TrimPrefix(fmt.Sprintf(template, name, image), "{") + `}}`
}

func revisionHash(data string) string {
	sum := fnv.New32()
	_, _ = sum.Write([]byte(data + "0"))
	return utilrand.SafeEncodeString(fmt.Sprint(sum.Sum32()))
}

// podStatus is that of a pod whose container app runs; kept in service or taken out of it for an update.
func podStatus(version, restarts string, serving bool) string {
	status := map[bool]string{true: "True", false: "False"}[serving]
	return fmt.Sprintf(`{"phase":"Running","podIP":"10.9.9.9","startTime":"2026-01-04T09:00:00Z","conditions":[`+
		`{"type":"PodScheduled","status":"True"},{"type":"Initialized","status":"True"},{"type":"ContainersReady","status":"True"},`+
		`{"type":"Ready","status":"%[3]s","lastTransitionTime":"2026-01-04T09:00:10Z"},`+
		`{"type":"InPlaceUpdateReady","status":"%[3]s","lastTransitionTime":"2026-01-04T09:00:00Z"},`+
		`{"type":"KruisePodReady","status":"True","lastTransitionTime":"2026-01-04T09:00:00Z"}],`+
		`"containerStatuses":[{"name":"app","ready":true,"started":true,"restartCount":%[2]s,"image":"registry.example/app:%[1]s",`+
		`"imageID":"registry.example/app@sha256:%[1]s","containerID":"containerd://%[1]s","state":{"running":{"startedAt":"2026-01-04T09:00:05Z"}}}]}`,
		version, restarts, status)
}

// write creates an object with its status.
func (l *leaver) write(u *unstructured.Unstructured) {
	l.Helper()
	if u.Object == nil {
		return
	}
	status, has := u.Object["status"]
	written := u.DeepCopy()
	delete(written.Object, "status")
	err := l.client.Create(l.Context(), written)
	if u.GetKind() == "Namespace" {
		err = client.IgnoreAlreadyExists(err)
	}
	if err != nil {
		l.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
	l.owners[u.GetName()] = string(written.GetUID())
	if has {
		written.Object["status"] = status
		l.must(l.client.Status().Update(l.Context(), written))
	}
}

// store makes version the one that CRDs are stored in.
func (l *leaver) store(version string) {
	l.Helper()
	var crds apixv1.CustomResourceDefinitionList
	l.must(l.client.List(l.Context(), &crds))
	for i := range crds.Items {
		crd := &crds.Items[i]
		if len(crd.Spec.Versions) < 2 {
			continue
		}
		for v := range crd.Spec.Versions {
			crd.Spec.Versions[v].Storage = crd.Spec.Versions[v].Name == version
		}
		l.must(l.client.Update(l.Context(), crd))
	}
}

// certificates leaves the Secret with its six keys: a CA of ten years and a certificate for the Service.
func (l *leaver) certificates() {
	l.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	l.must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "webhook-cert-ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kruise-webhook-service.kruise-system.svc"},
		DNSNames: []string{"localhost", "kruise-webhook-service.kruise-system.svc"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	l.must(err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	l.must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	l.must(err)
	text := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	private, serving := text("PRIVATE KEY", keyDER), text("CERTIFICATE", leafDER)
	l.must(l.client.Create(l.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-webhook-certs"},
		Data: map[string][]byte{
			"ca-key.pem": private, "ca-cert.pem": text("CERTIFICATE", caDER), "key.pem": private, "tls.key": private, "cert.pem": serving, "tls.crt": serving,
		},
	}))
}

// conversion makes the apiserver ask a Service that nobody serves any more.
func (l *leaver) conversion() {
	l.Helper()
	gone := webhooks.Endpoint{ServiceNamespace: "kruise-system", ServiceName: "kruise-webhook-service", Port: 9876}
	var crds apixv1.CustomResourceDefinitionList
	l.must(l.client.List(l.Context(), &crds))
	wanted, err := install.CRDs(nil)
	l.must(err)
	for i := range crds.Items {
		for _, w := range wanted {
			if w.Name == crds.Items[i].Name && w.Spec.Conversion != nil && w.Spec.Conversion.Strategy == apixv1.WebhookConverter {
				crds.Items[i].Spec.Conversion = gone.Conversion(nil)
				l.must(l.client.Update(l.Context(), &crds.Items[i]))
			}
		}
	}
}

// webhooks leaves configurations that know no match condition, call a Service for paths of all features, and carry the
// annotation that once held the truth about them.
func (l *leaver) webhooks() {
	l.Helper()
	gone := webhooks.Endpoint{ServiceNamespace: "kruise-system", ServiceName: "kruise-webhook-service", Port: 9876}
	m, v := webhooks.Configurations(gone, gates.New(), "kruise-system")
	m.TypeMeta, v.TypeMeta = metav1.TypeMeta{}, metav1.TypeMeta{}
	for i := range m.Webhooks {
		m.Webhooks[i].MatchConditions = nil
	}
	for i := range v.Webhooks {
		v.Webhooks[i].MatchConditions = nil
	}
	sidecar := m.Webhooks[len(m.Webhooks)-1].DeepCopy()
	sidecar.Name = "msidecarset.kb.io"
	sidecar.ClientConfig.Service.Path = ptr.To("/mutate-apps-kruise-io-sidecarset")
	sidecar.Rules[0].Resources = []string{"sidecarsets"}
	sidecar.Rules[0].APIGroups = []string{"apps.kruise.io"}
	m.Webhooks = append(m.Webhooks, *sidecar)
	cached, err := json.Marshal(m.Webhooks)
	l.must(err)
	m.Annotations = map[string]string{"template": string(cached)}
	v.Annotations = map[string]string{"template": ""}
	l.must(l.client.Create(l.Context(), m))
	l.must(l.client.Create(l.Context(), v))
	l.Cleanup(func() { // so that the lab can delete pods
		_ = l.client.Delete(context.Background(), &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: m.Name}})
		_ = l.client.Delete(context.Background(), &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: v.Name}})
	})
}
