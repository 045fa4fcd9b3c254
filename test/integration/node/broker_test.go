// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/node"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

// brokerToken returns a token for the broker, of an account and bound to a pod if there is one.
func (w *world) brokerToken(account string, pod *corev1.Pod) string {
	w.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{credentials.BrokerAudience}}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	w.must(w.SubResource("token").Create(w.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: account}}, request))
	return request.Status.Token
}

// broker is how tests reach the manager's broker.
type broker struct {
	w   *world
	web *http.Client
	ca  string
}

func (w *world) broker() *broker {
	w.Helper()
	b := &broker{w: w}
	w.eventually("the CA is published for agents", func() error {
		m := &corev1.ConfigMap{}
		if err := w.Get(w.ctx, client.ObjectKey{Namespace: "kruise-system", Name: credentials.CAConfigMap}, m); err != nil {
			return err
		}
		b.ca = m.Data[credentials.CAFile]
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(b.ca))
		b.web = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true}}
		resp, err := b.web.Get(manager.Webhooks + "/healthz") // an older manager's CA is not that of this one
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return b
}

// dir returns a directory as a projected volume with a token has it.
func (b *broker) dir(token string) string {
	b.w.Helper()
	dir := b.w.TempDir()
	for name, text := range map[string]string{credentials.CAFile: b.ca, credentials.TokenFile: token} {
		b.w.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// ask asks for an image with a token.
func (b *broker) ask(token, image, tag string) (int, credentials.Answer) {
	b.w.Helper()
	body, err := json.Marshal(credentials.Request{Image: image, Tag: tag})
	b.w.must(err)
	req, err := http.NewRequestWithContext(b.w.ctx, http.MethodPost, manager.Webhooks+credentials.BrokerPath, bytes.NewReader(body))
	b.w.must(err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := b.web.Do(req)
	b.w.must(err)
	defer func() { _ = resp.Body.Close() }()
	if c := resp.Header.Get("Cache-Control"); c != "no-store" {
		b.w.Errorf("Cache-Control is %q", c)
	}
	text, err := io.ReadAll(resp.Body)
	b.w.must(err)
	var answer credentials.Answer
	if resp.StatusCode == http.StatusOK {
		b.w.must(json.Unmarshal(text, &answer))
	} else if strings.TrimSpace(string(text)) != http.StatusText(resp.StatusCode) {
		b.w.Errorf("a refusal tells %q", text)
	}
	return resp.StatusCode, answer
}

// With a broker nothing is copied and agents read no secrets: they ask for what they are about to pull.
func TestBroker(t *testing.T) {
	w := newWorldAlone(t) // the others have a manager without
	w.must(startManager(w.ctx, "--v=9", "--secret-delivery=broker"))
	t.Cleanup(func() {
		if err := startManager(context.Background(), "--v=1"); err != nil {
			t.Error(err)
		}
		if err := apply(context.Background(), "rbac/daemon.yaml"); err != nil {
			t.Error(err)
		}
	})
	w.must(w.Delete(w.ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-daemon-config", Name: "kruise-daemon-secret-rolebinding"}}))
	w.eventually("agents have no right to secrets", func() error {
		if w.may(daemonAccount, "get", "kruise-daemon-config", "secrets") {
			return fmt.Errorf("they have")
		}
		return nil
	})
	t.Run("S_security_25", func(t *testing.T) {
		const password = "QZXJVKQZXJVK"
		own, foreign := freeNode(t), freeNode(t)
		w.nodeImages(own, foreign)
		b := w.broker()
		pod, foreignPod := w.daemonPod(own), w.daemonPod(foreign)
		held, release := make(chan struct{}, 1), make(chan struct{})
		needed := passwordNeeded(password)
		runtime := &fakecri.Server{OnPull: func(ctx context.Context, r *runtimeapi.PullImageRequest) error {
			if strings.Contains(r.Image.Image, "held") {
				held <- struct{}{}
				<-release
			}
			return needed(ctx, r)
		}}
		a := w.startAgent(own, runtime, func(o *node.Options) {
			o.SecretDelivery, o.BrokerURL, o.BrokerDir = credentials.DeliveryBroker, manager.Webhooks+credentials.BrokerPath, b.dir(w.brokerToken("kruise-daemon", pod))
		}).healthy()
		w.must(w.Create(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "logins"}, Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{"reg.example.com":{"username":"robot","password":%q},"other.example.com":{"username":"x","password":%q}}}`, password, password)}}))
		pull := func(name, image string) *v1beta1.ImagePullJob {
			job := w.pullJob(name, image, own)
			job.Spec.PullSecrets = []string{"logins"}
			w.must(w.Create(w.ctx, job))
			return job
		}
		if st := w.ended(pull("private", "reg.example.com/app:1")); st.Succeeded != 1 {
			t.Errorf("status %+v", st)
		}
		second := pull("second", "reg.example.com/held:1")
		<-held

		agents := w.brokerToken("kruise-daemon", pod)
		status, answer := b.ask(agents, "reg.example.com/held", "1")
		if status != http.StatusOK || len(answer.Configs) != 1 || strings.Contains(string(answer.Configs[0]), "other.example.com") || !strings.Contains(string(answer.Configs[0]), password) {
			t.Errorf("answer %d %s", status, answer.Configs)
		}
		for name, tc := range map[string]struct {
			token, image, tag string
			want              int
		}{
			"nobody":                           {"", "reg.example.com/held", "1", http.StatusUnauthorized},
			"nonsense":                         {"x.y.z", "reg.example.com/held", "1", http.StatusUnauthorized},
			"the agent's token for apiservers": {w.tokenFor(pod).Status.Token, "reg.example.com/held", "1", http.StatusUnauthorized},
			"somebody's token for apiservers":  {w.accountToken("somebody"), "reg.example.com/held", "1", http.StatusUnauthorized},
			"the manager's":                    {w.brokerToken("kruise-manager", nil), "reg.example.com/held", "1", http.StatusForbidden},
			"an agent's without node":          {w.brokerToken("kruise-daemon", nil), "reg.example.com/held", "1", http.StatusForbidden},
			"another node's":                   {w.brokerToken("kruise-daemon", foreignPod), "reg.example.com/held", "1", http.StatusForbidden},
			"an image that is finished":        {agents, "reg.example.com/app", "1", http.StatusForbidden},
			"another tag":                      {agents, "reg.example.com/held", "2", http.StatusForbidden},
			"an image nobody asked for":        {agents, "reg.example.com/else", "1", http.StatusForbidden},
		} {
			if status, _ := b.ask(tc.token, tc.image, tc.tag); status != tc.want {
				t.Errorf("%s: %d, want %d", name, status, tc.want)
			}
		}
		limited := 0
		for range 60 {
			if status, _ := b.ask(agents, "reg.example.com/held", "1"); status == http.StatusTooManyRequests {
				limited++
			}
		}
		if limited == 0 {
			t.Error("60 requests in a row are answered")
		}
		if status, _ := b.ask(w.brokerToken("kruise-daemon", foreignPod), "reg.example.com/held", "1"); status != http.StatusForbidden {
			t.Errorf("the limit of one node is another's, too: %d", status)
		}
		close(release)
		if st := w.ended(second); st.Succeeded != 1 {
			t.Errorf("status %+v", st)
		}
		dead := w.brokerToken("kruise-daemon", foreignPod)
		w.must(w.Delete(w.ctx, foreignPod, client.GracePeriodSeconds(0)))
		if status, _ := b.ask(dead, "reg.example.com/held", "1"); status != http.StatusForbidden && status != http.StatusUnauthorized {
			t.Errorf("the token of a pod that is gone: %d", status)
		}

		copies := &corev1.SecretList{}
		w.must(w.List(w.ctx, copies, client.InNamespace("kruise-daemon-config")))
		for _, s := range copies.Items {
			if strings.HasPrefix(s.Annotations[v1beta1.ImagePullJobSourceSecretKey], w.namespace+"/") {
				t.Errorf("copy %s", s.Name)
			}
		}
		if asked := a.gate.seen("/secrets"); len(asked) > 0 {
			t.Errorf("the agent asks for secrets: %v", asked)
		}
		if log := w.read(manager.Log); strings.Contains(log, password) || strings.Contains(log, base64Of(password)) || strings.Contains(log, agents) {
			t.Error("the manager logs credentials")
		}
	})
}
