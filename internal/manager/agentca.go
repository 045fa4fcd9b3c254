// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"maps"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/manager/certs"
)

// caForAgents also publishes the CA in the agents' namespace, where their pods mount it (security 5.3.2).
type caForAgents struct {
	certs.Publisher
	client    client.Client
	namespace string
	log       logr.Logger
}

// Publish implements certs.Publisher. What admission lacks doesn't keep agents from being told, and the other way round.
func (p *caForAgents) Publish(ctx context.Context, bundle []byte) (bool, error) {
	everywhere, err := p.Publisher.Publish(ctx, bundle)
	had, problem := p.publish(ctx, map[string]string{credentials.CAFile: string(bundle)})
	if problem != nil { // admission does not wait for it, only pulls do
		p.log.Error(problem, "Agents can't be told the CA", "namespace", p.namespace, "configMap", credentials.CAConfigMap)
		had = true
	}
	return everywhere && had, err
}

func (p *caForAgents) publish(ctx context.Context, data map[string]string) (had bool, err error) {
	m := &corev1.ConfigMap{}
	err = p.client.Get(ctx, client.ObjectKey{Namespace: p.namespace, Name: credentials.CAConfigMap}, m)
	switch {
	case apierrors.IsNotFound(err):
		m = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: credentials.CAConfigMap}, Data: data}
		if err = p.client.Create(ctx, m); apierrors.IsAlreadyExists(err) {
			return false, nil // by another replica; we come again
		}
		return false, err
	case err != nil:
		return false, err
	case maps.Equal(m.Data, data):
		return true, nil
	}
	m.Data = data
	return false, p.client.Update(ctx, m)
}
