// SPDX-License-Identifier: Apache-2.0

// Package credentials cuts docker configurations down to what an image needs, and has the words in which manager and
// agent talk about them with --secret-delivery=broker (security 5.3).
package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"

	"kruise.io/kruise/internal/imagepull/reference"
)

// Values of --secret-delivery.
const (
	// DeliveryNamespace copies pull secrets to a namespace that agents read.
	DeliveryNamespace = "namespace"
	// DeliveryBroker has agents ask the manager for the credentials of an image that they are about to pull.
	DeliveryBroker = "broker"
)

const (
	// BrokerPath is where the manager's webhook server answers.
	BrokerPath = "/node-credentials"
	// BrokerAudience is that of the tokens by which agents ask.
	BrokerAudience = "kruise-credential-broker"
	// CAConfigMap is the ConfigMap in the agents' namespace with the CA of the webhook server.
	CAConfigMap = "kruise-webhook-ca"
	// CAFile is its key, and the file in an agent's projected volume.
	CAFile = "ca.crt"
	// TokenFile is the other file there.
	TokenFile = "token"
)

// Request asks for what one image is pulled with. Its sender is told by the bearer token.
type Request struct {
	// Image is the familiar name without tag, the key in the NodeImage.
	Image string `json:"image"`
	// Tag is the tag or the digest.
	Tag string `json:"tag"`
}

// Answer has docker configurations ({"auths": …}), each with nothing but the entries for the image.
type Answer struct {
	Configs []json.RawMessage `json:"configs"`
}

// KeyOf is the key of the docker configuration in secrets of a type, "" if the type has none.
func KeyOf(t corev1.SecretType) string {
	switch t {
	case corev1.SecretTypeDockerConfigJson:
		return corev1.DockerConfigJsonKey
	case corev1.SecretTypeDockercfg:
		return corev1.DockerConfigKey
	}
	return ""
}

// Reduce returns a docker configuration, in the form that secrets of its type have, with only the registries that the
// images come from, each as it was. A nil value stays nil.
func Reduce(t corev1.SecretType, value []byte, images []string) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	c, err := parse(t, value)
	if err != nil {
		return nil, err
	}
	c.keep(images)
	if t == corev1.SecretTypeDockercfg {
		return json.Marshal(c.Auths)
	}
	return json.Marshal(c)
}

// For returns a configuration as an Answer holds it, nil if the secret has nothing for the image.
func For(s *corev1.Secret, image string) (json.RawMessage, error) {
	c, err := parse(s.Type, s.Data[KeyOf(s.Type)])
	if err != nil {
		return nil, err
	}
	if c.keep([]string{image}); len(c.Auths) == 0 {
		return nil, nil
	}
	return json.Marshal(c)
}

// Logins returns what the secrets have for an image, the most specific registry first, as a kubelet would find it but
// with identity and registry tokens (image-pulling W17). Secrets of types without docker configuration have nothing.
func Logins(secrets []corev1.Secret, image string) ([]credentialprovider.AuthConfig, error) {
	type login struct {
		registry string
		credentialprovider.AuthConfig
	}
	var found []login
	for i := range secrets {
		s := &secrets[i]
		key := KeyOf(s.Type)
		value, ok := s.Data[key]
		if key == "" || !ok {
			continue
		}
		c, err := parse(s.Type, value)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.Name, err)
		}
		c.keep([]string{image})
		for registry, raw := range c.Auths {
			var entry credentialprovider.DockerConfigEntry
			var tokens struct{ IdentityToken, RegistryToken string }
			if json.Unmarshal(raw, &entry) != nil || json.Unmarshal(raw, &tokens) != nil {
				return nil, fmt.Errorf("secret %s: %w", s.Name, errNoConfig)
			}
			a := credentialprovider.AuthConfig{Username: entry.Username, Password: entry.Password, RegistryToken: tokens.RegistryToken}
			if tokens.IdentityToken != "" { // runtimes look at it only if there is no user
				a = credentialprovider.AuthConfig{IdentityToken: tokens.IdentityToken}
			}
			found = append(found, login{registry, a})
		}
	}
	slices.SortStableFunc(found, func(a, b login) int { return strings.Compare(b.registry, a.registry) })
	out := make([]credentialprovider.AuthConfig, 0, len(found))
	for _, l := range found {
		out = append(out, l.AuthConfig)
	}
	return out, nil
}

// config is the part of a docker configuration that holds credentials.
type config struct {
	Auths map[string]json.RawMessage `json:"auths"`
}

// errNoConfig is what is told of an error of the decoder, whose text could quote the configuration.
var errNoConfig = errors.New("it holds no docker configuration")

func parse(t corev1.SecretType, value []byte) (c config, err error) {
	if t == corev1.SecretTypeDockercfg {
		err = json.Unmarshal(value, &c.Auths)
	} else {
		err = json.Unmarshal(value, &c)
	}
	if err != nil {
		return config{}, errNoConfig
	}
	if c.Auths == nil {
		c.Auths = map[string]json.RawMessage{}
	}
	return c, nil
}

// keep drops the registries that none of the images comes from.
func (c config) keep(images []string) {
	maps.DeleteFunc(c.Auths, func(registry string, _ json.RawMessage) bool { return !serves(registry, images) })
}

// serves tells whether a kubelet, which knows images by their full names, would use the entry of a registry for one of the
// images.
func serves(registry string, images []string) bool {
	ring := &credentialprovider.BasicDockerKeyring{}
	ring.Add(nil, credentialprovider.DockerConfig{registry: {}})
	return slices.ContainsFunc(images, func(image string) bool {
		_, found := ring.Lookup(reference.FullName(image))
		return found
	})
}
