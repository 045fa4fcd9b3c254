// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Secret is a Store that all replicas share. Writes carry the resourceVersion that was read, so any replica may write.
type Secret struct {
	// Client reads and writes the apiserver, no cache.
	Client    client.Client
	Namespace string
	Name      string
}

// Load reads the Secret; a missing one is empty.
func (s Secret) Load(ctx context.Context) (map[string][]byte, string, error) {
	var secret corev1.Secret
	err := s.Client.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	return secret.Data, secret.ResourceVersion, nil
}

// Save creates the Secret, or updates it if it is still the one that was read. Labels and annotations of others stay.
func (s Secret) Save(ctx context.Context, data map[string][]byte, token string) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	var err error
	if token == "" {
		secret.Type, secret.Data = corev1.SecretTypeOpaque, data
		err = s.Client.Create(ctx, secret)
	} else {
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(secret), secret); err != nil {
			return s.wrap(err)
		}
		if secret.ResourceVersion != token {
			return ErrConflict
		}
		secret.Data = data
		err = s.Client.Update(ctx, secret)
	}
	return s.wrap(err)
}

func (s Secret) wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return ErrConflict
	default:
		return fmt.Errorf("Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
}
