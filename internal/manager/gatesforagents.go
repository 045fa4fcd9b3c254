// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager/gates"
)

// publishGatesEvery is how often the leader looks whether what it published is still there.
const publishGatesEvery = 10 * time.Minute

// publishGates keeps the ConfigMap with the gates of this manager as it should be, until ctx ends. Nothing depends on it:
// agents warn of other gates than theirs (node-agent W18).
func (m *Manager) publishGates(ctx context.Context) {
	told, retry := "", time.Second
	for {
		wait := publishGatesEvery
		err := m.publishGatesOnce(ctx)
		switch {
		case err == nil:
			told, retry = "", time.Second
		case ctx.Err() == nil:
			if text := err.Error(); text != told {
				told = text
				m.log.Error(err, "The feature gates can't be published for agents to compare; nothing else depends on it")
			}
			wait, retry = retry, min(2*retry, publishGatesEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (m *Manager) publishGatesOnce(ctx context.Context) error {
	key := client.ObjectKey{Namespace: m.opts.PodNamespace, Name: gates.ConfigMap}
	data := gates.Published(m.opts.Gates)
	cm := &corev1.ConfigMap{}
	err := m.live.Get(ctx, key, cm)
	switch {
	case apierrors.IsNotFound(err):
		cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Data: data}
		err = m.live.Create(ctx, cm)
	case err == nil && !maps.Equal(cm.Data, data):
		cm.Data = data
		err = m.live.Update(ctx, cm)
	}
	if err != nil {
		return fmt.Errorf("ConfigMap %s: %w", key, err)
	}
	return nil
}
