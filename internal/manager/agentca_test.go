// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"kruise.io/kruise/internal/imagepull/credentials"
)

type publisher struct{ err error }

func (p publisher) Publish(context.Context, []byte) (bool, error) { return p.err == nil, p.err }

// TestAgentsLearnTheCA: a webhook configuration that is missing does not keep agents from learning a new CA.
func TestAgentsLearnTheCA(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	missing := errors.New("not found ValidatingWebhookConfiguration x")
	for _, step := range []struct {
		bundle     string
		err        error
		everywhere bool
	}{{"a", nil, false}, {"a", nil, true}, {"b", missing, false}, {"b", missing, false}, {"b", nil, true}} {
		p := &caForAgents{Publisher: publisher{step.err}, client: c, namespace: "agents", log: logr.Discard()}
		everywhere, err := p.Publish(t.Context(), []byte(step.bundle))
		if everywhere != step.everywhere || !errors.Is(err, step.err) {
			t.Errorf("%+v: %t, %v", step, everywhere, err)
		}
		m := &corev1.ConfigMap{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "agents", Name: credentials.CAConfigMap}, m); err != nil || m.Data[credentials.CAFile] != step.bundle {
			t.Errorf("%+v: agents know %v, %v", step, m.Data, err)
		}
	}
}
