// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/imagepull/reference"
)

// Limits of the broker for each node (security 5.3.2), and for each address from which unknown tokens come.
const (
	brokerRate  = 5 // per second
	brokerBurst = 20
)

// Broker answers the agents that are about to pull an image with what the jobs behind the task log in with (security
// 5.3.2). It is told nothing but a node's own token and remembers nothing of what it answers, only whose a token
// is for half a minute.
type Broker struct {
	// Live reads from the apiserver: what an agent has just seen must not be older here.
	Live client.Reader
	// Reviews creates TokenReviews.
	Reviews client.Client
	// Namespace and Account are those of the agents.
	Namespace, Account string
	// SecretTypes are those that jobs may name (--pull-secret-types).
	SecretTypes []string
	Log         logr.Logger
	// Now is the clock; nil for the real one.
	Now func() time.Time

	tokens           knownTokens
	nodes, strangers limits
}

func (b *Broker) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

// refused is an answer without credentials. Its sender is told nothing but the status.
type refused struct {
	status int
	why    error
}

func (r refused) Error() string { return r.why.Error() }

// ServeHTTP implements http.Handler.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	answer, err := b.answer(quiet(r.Context()), r)
	if err != nil {
		status := http.StatusServiceUnavailable
		if no, ok := err.(refused); ok { //nolint:errorlint // answer returns it as it is
			status = no.status
		}
		b.Log.V(2).Info("An agent got no credentials", "status", status, "reason", err.Error(), "from", r.RemoteAddr)
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // fails only if the agent is gone
}

func (b *Broker) answer(ctx context.Context, r *http.Request) (*credentials.Answer, error) {
	if r.Method != http.MethodPost {
		return nil, refused{http.StatusMethodNotAllowed, fmt.Errorf("method %s", r.Method)}
	}
	who, err := b.authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	node := who.node
	if !b.nodes.allow(node, b.now()) {
		return nil, refused{http.StatusTooManyRequests, fmt.Errorf("node %s asks too often", node)}
	}
	if err := b.lives(ctx, who); err != nil {
		return nil, err
	}
	var ask credentials.Request
	if json.NewDecoder(r.Body).Decode(&ask) != nil {
		return nil, refused{http.StatusBadRequest, fmt.Errorf("node %s sends no request", node)}
	}
	image := reference.Image{Name: ask.Image, Tag: ask.Tag}
	owners, err := b.owners(ctx, node, image)
	if err != nil {
		return nil, err
	}
	return b.collect(ctx, image.Name, owners)
}

// authenticate returns the agent that asks: the token must be for us, of the agents' account, and bound to a pod on a node.
// Who sends tokens that nobody has vouched for yet has the apiserver asked about a few of them only.
func (b *Broker) authenticate(ctx context.Context, r *http.Request) (agent, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return agent{}, refused{http.StatusUnauthorized, fmt.Errorf("no token")}
	}
	if known, ok := b.tokens.get(token, b.now()); ok {
		return known, nil
	}
	if from := sender(r.RemoteAddr); !b.strangers.allow(from, b.now()) {
		return agent{}, refused{http.StatusTooManyRequests, fmt.Errorf("%s sends too many tokens", from)}
	}
	who, err := b.review(ctx, token)
	if err == nil {
		b.tokens.put(token, who, b.now())
	}
	return who, err
}

// review asks the apiserver whose token it is.
func (b *Broker) review(ctx context.Context, token string) (agent, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{credentials.BrokerAudience}}}
	if err := b.Reviews.Create(ctx, review); err != nil {
		return agent{}, fmt.Errorf("asking whose token it is: %w", err)
	}
	if !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, credentials.BrokerAudience) {
		return agent{}, refused{http.StatusUnauthorized, fmt.Errorf("the token is not valid for %s", credentials.BrokerAudience)}
	}
	user := review.Status.User
	if user.Username != "system:serviceaccount:"+b.Namespace+":"+b.Account {
		return agent{}, refused{http.StatusForbidden, fmt.Errorf("%s is no agent", user.Username)}
	}
	extra := func(key string) string {
		if v := user.Extra["authentication.kubernetes.io/"+key]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	who := agent{pod: extra("pod-name"), uid: extra("pod-uid"), node: extra("node-name")}
	if who.pod == "" || who.uid == "" {
		return agent{}, refused{http.StatusForbidden, fmt.Errorf("the token is not bound to a pod")}
	}
	if who.node == "" { // tokens of apiservers before 1.30 do not tell it; the pod does
		pod, err := b.pod(ctx, who)
		if err != nil {
			return agent{}, err
		}
		if who.node = pod.Spec.NodeName; who.node == "" || string(pod.UID) != who.uid {
			return agent{}, refused{http.StatusForbidden, fmt.Errorf("the token is not bound to a node")}
		}
	}
	return who, nil
}

// pod reads that of an agent; it is empty if there is none.
func (b *Broker) pod(ctx context.Context, who agent) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := b.Live.Get(ctx, types.NamespacedName{Namespace: b.Namespace, Name: who.pod}, pod); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading the agent's pod %s: %w", who.pod, err)
	}
	return pod, nil
}

// lives refuses an agent whose pod is not on its node any more.
func (b *Broker) lives(ctx context.Context, who agent) error {
	pod, err := b.pod(ctx, who)
	if err != nil {
		return err
	}
	if string(pod.UID) != who.uid || pod.Spec.NodeName != who.node || pod.DeletionTimestamp != nil ||
		pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return refused{http.StatusForbidden, fmt.Errorf("pod %s does not live on node %s", who.pod, who.node)}
	}
	return nil
}

// owners returns the jobs that own the unfinished task of an image on a node.
func (b *Broker) owners(ctx context.Context, node string, image reference.Image) ([]corev1.ObjectReference, error) {
	n := &appsv1beta1.NodeImage{}
	if err := b.Live.Get(ctx, types.NamespacedName{Name: node}, n); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading NodeImage %s: %w", node, err)
	}
	tags := n.Spec.Images[image.Name].Tags
	if i := findTag(tags, image.Tag); i >= 0 && !isFinished(n, image.Name, &tags[i]) {
		return tags[i].OwnerReferences, nil
	}
	return nil, refused{http.StatusForbidden, fmt.Errorf("node %s has no unfinished task for %s", node, image)}
}

// collect returns what the pull secrets of running jobs have for an image. What is missing or holds no credentials is
// left out: the jobs' messages tell of it.
func (b *Broker) collect(ctx context.Context, image string, owners []corev1.ObjectReference) (*credentials.Answer, error) {
	answer := &credentials.Answer{}
	seen := map[types.NamespacedName]bool{}
	for _, o := range owners {
		if !isJob(o) {
			continue
		}
		job := &appsv1beta1.ImagePullJob{}
		if err := b.Live.Get(ctx, types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, job); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("reading ImagePullJob %s/%s: %w", o.Namespace, o.Name, err)
		}
		if job.UID != o.UID || !isActive(job) {
			continue
		}
		for _, name := range job.Spec.PullSecrets {
			key := types.NamespacedName{Namespace: job.Namespace, Name: name}
			if seen[key] {
				continue
			}
			seen[key] = true
			s := &corev1.Secret{}
			err := b.Live.Get(ctx, key, s)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("reading pull secret %s: %w", key, err)
			}
			if !copyable(b.SecretTypes, s.Type) || credentials.KeyOf(s.Type) == "" {
				continue
			}
			if c, err := credentials.For(s, image); err == nil && c != nil {
				answer.Configs = append(answer.Configs, c)
			}
		}
	}
	return answer, nil
}
