// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/credentials"
)

// brokered is a broker at a clock of its own, with one agent whose token is "good", and the number of reviews.
type brokered struct {
	*Broker
	client.WithWatch
	now     time.Time
	reviews int
}

func newBrokered(t *testing.T) *brokered {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	b := &brokered{now: time.Unix(1e9, 0)}
	b.WithWatch = fake.NewClientBuilder().WithScheme(scheme).WithObjects(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "agent", UID: "u"}, Spec: corev1.PodSpec{NodeName: "n"},
	}).WithInterceptorFuncs(interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
		review := obj.(*authenticationv1.TokenReview)
		b.reviews++
		if strings.HasPrefix(review.Spec.Token, "good") {
			const key = "authentication.kubernetes.io/"
			review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{credentials.BrokerAudience}, User: authenticationv1.UserInfo{
				Username: "system:serviceaccount:kruise-system:kruise-daemon",
				Extra:    map[string]authenticationv1.ExtraValue{key + "pod-name": {"agent"}, key + "pod-uid": {"u"}, key + "node-name": {"n"}},
			}}
			if review.Spec.Token == "good before 1.30" {
				delete(review.Status.User.Extra, key+"node-name")
			}
		}
		return nil
	}}).Build()
	b.Broker = &Broker{Live: b, Reviews: b, Namespace: "kruise-system", Account: "kruise-daemon", Log: logr.Discard(), Now: func() time.Time { return b.now }}
	return b
}

func (b *brokered) ask(token, from string) int {
	r := httptest.NewRequest(http.MethodPost, credentials.BrokerPath, strings.NewReader(`{"image":"i","tag":"1"}`))
	r.RemoteAddr = from
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w.Code
}

// The apiserver is asked once about a token, and about few that come from one place, whatever is sent (security 5.3.2).
func TestBrokerReviews(t *testing.T) {
	const here = "192.0.2.1:1234"
	t.Run("once for a token", func(t *testing.T) {
		b := newBrokered(t)
		for range brokerBurst {
			if got := b.ask("good", here); got != http.StatusForbidden { // the node has no task
				t.Fatalf("answer %d", got)
			}
		}
		if got := b.ask("good", here); got != http.StatusTooManyRequests || b.reviews != 1 {
			t.Errorf("answer %d, %d reviews", got, b.reviews)
		}
		b.now = b.now.Add(tokenLife)
		if got := b.ask("good", here); got != http.StatusForbidden || b.reviews != 2 {
			t.Errorf("later: answer %d, %d reviews", got, b.reviews)
		}
	})
	t.Run("few from one address", func(t *testing.T) {
		b := newBrokered(t)
		codes := map[int]int{}
		for n := range 100 {
			codes[b.ask(fmt.Sprint("bad", n), here)]++
		}
		if codes[http.StatusUnauthorized] != brokerBurst || codes[http.StatusTooManyRequests] != 100-brokerBurst || b.reviews != brokerBurst {
			t.Errorf("answers %v, %d reviews", codes, b.reviews)
		}
		if got := b.ask("good", "192.0.2.2:1"); got != http.StatusForbidden {
			t.Errorf("another address: %d", got)
		}
		if got := b.ask("good", here); got != http.StatusForbidden { // known by now
			t.Errorf("an agent at the same address: %d", got)
		}
	})
	t.Run("of one network", func(t *testing.T) {
		b := newBrokered(t)
		for n := range 100 {
			b.ask(fmt.Sprint("bad", n), fmt.Sprintf("[2001:db8::%x]:1", n))
		}
		if b.reviews != brokerBurst {
			t.Errorf("%d reviews", b.reviews)
		}
	})
	t.Run("a pod that has gone", func(t *testing.T) {
		b := newBrokered(t)
		before := b.ask("good", here)
		if err := b.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "agent"}}); err != nil {
			t.Fatal(err)
		}
		var why error
		if before == http.StatusForbidden {
			r := httptest.NewRequest(http.MethodPost, credentials.BrokerPath, strings.NewReader(`{}`))
			r.Header.Set("Authorization", "Bearer good")
			_, why = b.answer(t.Context(), r)
		}
		if why == nil || !strings.Contains(why.Error(), "does not live on node n") || b.reviews != 1 {
			t.Errorf("%v, %d reviews", why, b.reviews)
		}
	})
	t.Run("a token without a node", func(t *testing.T) {
		b := newBrokered(t)
		if got := b.ask("good before 1.30", here); got != http.StatusForbidden || b.tokens.by[sha256.Sum256([]byte("good before 1.30"))].node != "n" {
			t.Errorf("answer %d, known %v", got, b.tokens.by)
		}
	})
	t.Run("what is remembered is bounded", func(t *testing.T) {
		var k knownTokens
		var l limits
		now := time.Unix(1e9, 0)
		for n := range 5000 {
			k.put(fmt.Sprint(n), agent{}, now)
			l.allow(fmt.Sprint(n), now)
			now = now.Add(tokenLife / 100)
		}
		if len(k.by) > 1000 || len(l.by) > 1000 {
			t.Errorf("%d tokens, %d limits", len(k.by), len(l.by))
		}
	})
}

func TestSender(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:9": "10.0.0.1", "[::ffff:10.0.0.1]:9": "::ffff:10.0.0.1", "[2001:db8:1:2:3::4]:9": "2001:db8:1:2::/64", "[fe80::1%eth0]:9": "fe80::/64", "@": "@",
	} {
		if got := sender(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}
