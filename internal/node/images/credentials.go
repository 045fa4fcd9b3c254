// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/imagepull/reference"
)

// secretLife is how long a secret that was read is used.
const secretLife = 5 * time.Minute

// Credentials finds what to log in with.
type Credentials interface {
	// For returns the logins for an image, in the order to try them. problem names secrets that are missing.
	For(ctx context.Context, image reference.Image, refs []appsv1beta1.ReferenceObject, owners []corev1.ObjectReference) (logins []*runtimeapi.AuthConfig, problem string, err error)
	// Forget drops what is remembered: the registry did not like it.
	Forget()
}

// Keyring takes credentials from secrets in one namespace, then from what the node has: docker configuration files and
// credential provider plugins.
type Keyring struct {
	// Reader gets secrets by name; it must not list or watch.
	Reader client.Reader
	// Namespace is the only one whose secrets are read.
	Namespace string
	// Broker is asked instead of reading secrets, if it is not nil.
	Broker *Broker

	plugins *Plugins
	node    credentialprovider.DockerKeyring
	mu      sync.Mutex
	known   map[types.NamespacedName]knownSecret
}

type knownSecret struct {
	secret *corev1.Secret
	at     time.Time
}

// NewKeyring returns a Keyring. plugins may be nil.
func NewKeyring(reader client.Reader, namespace string, plugins *Plugins) *Keyring {
	return &Keyring{
		Reader: reader, Namespace: namespace, known: map[types.NamespacedName]knownSecret{}, plugins: plugins,
		node: credentialprovider.NewDefaultDockerKeyring(),
	}
}

// For implements Credentials. A secret that was copied for jobs is used only for tasks of those jobs (security 5.3.1).
func (k *Keyring) For(ctx context.Context, image reference.Image, refs []appsv1beta1.ReferenceObject, owners []corev1.ObjectReference) ([]*runtimeapi.AuthConfig, string, error) {
	usable, problem, err := k.secrets(ctx, image, refs, owners)
	if err != nil {
		return nil, problem, err
	}
	found, err := credentials.Logins(usable, image.Name)
	if err != nil {
		return nil, problem, fmt.Errorf("pull secrets of %s: %w", image.Name, err)
	}
	ofNode, _ := k.node.Lookup(reference.FullName(image.Name))
	ofNode = append(ofNode, k.plugins.lookup(ctx, reference.FullName(image.Name))...)
	for i := range ofNode {
		found = append(found, ofNode[i].AuthConfig)
	}
	logins := make([]*runtimeapi.AuthConfig, 0, len(found))
	for i := range found {
		c := &found[i]
		logins = append(logins, &runtimeapi.AuthConfig{
			Username: c.Username, Password: c.Password, Auth: c.Auth, ServerAddress: c.ServerAddress,
			IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
		})
	}
	return logins, problem, nil
}

// secrets returns those that a task may be pulled with. problem names some that are missing.
func (k *Keyring) secrets(ctx context.Context, image reference.Image, refs []appsv1beta1.ReferenceObject, owners []corev1.ObjectReference) (usable []corev1.Secret, problem string, err error) {
	if k.Broker != nil && len(refs) > 0 {
		if usable, err = k.Broker.secrets(ctx, image); err != nil {
			return nil, "", &waiting{fmt.Errorf("waiting for credentials: %w", err)}
		}
		return usable, "", nil
	}
	var missing []string
	for _, ref := range refs {
		if ref.Namespace != k.Namespace {
			continue
		}
		s, err := k.get(ctx, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, owners)
		if err != nil {
			reason := "can't be read"
			if apierrors.IsNotFound(err) {
				reason = "not found"
			}
			missing = append(missing, ref.Name+" "+reason)
			continue
		}
		if usableBy(s, owners) {
			usable = append(usable, *s)
		}
	}
	if len(missing) > 0 {
		problem = "pull secrets: " + strings.Join(missing, ", ")
	}
	return usable, problem, nil
}

func usableBy(s *corev1.Secret, owners []corev1.ObjectReference) bool {
	references, ok := s.Annotations[appsv1beta1.ImagePullJobReferencesKey]
	if !ok {
		return true // the operator's
	}
	jobs := strings.Split(references, ",")
	return slices.ContainsFunc(owners, func(o corev1.ObjectReference) bool { return slices.Contains(jobs, o.Namespace+"/"+o.Name) })
}

// get returns a secret. One that is remembered may not know yet of a job that came after it was read, so what it refuses
// is read again.
func (k *Keyring) get(ctx context.Context, key types.NamespacedName, owners []corev1.ObjectReference) (*corev1.Secret, error) {
	k.mu.Lock()
	known, ok := k.known[key]
	k.mu.Unlock()
	if ok && time.Since(known.at) < secretLife && usableBy(known.secret, owners) {
		return known.secret, nil
	}
	s := &corev1.Secret{}
	// The client library would log what it reads at high levels (security 5.11).
	if err := k.Reader.Get(klog.NewContext(ctx, logr.Discard()), key, s); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known[key] = knownSecret{s, time.Now()}
	time.AfterFunc(secretLife, k.expire)
	return s, nil
}

// expire drops secrets that are not used any more: they must not stay in memory (security 5.3.3).
func (k *Keyring) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.known, func(_ types.NamespacedName, s knownSecret) bool { return time.Since(s.at) >= secretLife })
}

// Forget implements Credentials.
func (k *Keyring) Forget() {
	k.plugins.forget()
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.known)
}
