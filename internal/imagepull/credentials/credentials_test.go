// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
)

const three = `{"auths":{
	"reg.example.com":{"username":"a","password":"pw"},
	"https://index.docker.io/v1/":{"auth":"dXNlcjpwdw=="},
	"*.azure.example/team":{"auth":"MDAwOg==","identitytoken":"long-lived"}},
	"credHelpers":{"x":"y"}}`

const hub = `{"auths":{"docker.io":{},"docker.io/foo":{},"foo":{}}}`

func secret(name string, t corev1.SecretType, value string) corev1.Secret {
	return corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: t, Data: map[string][]byte{KeyOf(t): []byte(value)}}
}

func TestReduce(t *testing.T) {
	for name, tc := range map[string]struct {
		t           corev1.SecretType
		value, want string
		images      []string
	}{
		"by host":        {corev1.SecretTypeDockerConfigJson, three, `{"auths":{"reg.example.com":{"username":"a","password":"pw"}}}`, []string{"reg.example.com/team/app"}},
		"docker hub":     {corev1.SecretTypeDockerConfigJson, three, `{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwdw=="}}}`, []string{"nginx"}},
		"docker.io":      {corev1.SecretTypeDockerConfigJson, hub, `{"auths":{"docker.io":{}}}`, []string{"nginx"}},
		"docker.io/foo":  {corev1.SecretTypeDockerConfigJson, hub, `{"auths":{"docker.io":{},"docker.io/foo":{}}}`, []string{"foo/bar"}},
		"glob and path":  {corev1.SecretTypeDockerConfigJson, three, `{"auths":{"*.azure.example/team":{"auth":"MDAwOg==","identitytoken":"long-lived"}}}`, []string{"my.azure.example/team/app"}},
		"another path":   {corev1.SecretTypeDockerConfigJson, three, `{"auths":{}}`, []string{"my.azure.example/other/app"}},
		"another port":   {corev1.SecretTypeDockerConfigJson, three, `{"auths":{}}`, []string{"reg.example.com:5000/app"}},
		"old form":       {corev1.SecretTypeDockercfg, `{"a.example":{"auth":"x"},"b.example":{"auth":"y"}}`, `{"b.example":{"auth":"y"}}`, []string{"b.example/app"}},
		"several images": {corev1.SecretTypeDockercfg, `{"a.example":{},"b.example":{},"c.example":{}}`, `{"a.example":{},"b.example":{}}`, []string{"b.example/app", "a.example/app"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Reduce(tc.t, []byte(tc.value), tc.images)
			if err != nil || string(got) != tc.want {
				t.Errorf("%s (%v), want %s", got, err, tc.want)
			}
		})
	}
	t.Run("what can't be read is not quoted", func(t *testing.T) {
		for _, value := range []string{"hunter2", `{"auths":"hunter2"}`, ""} {
			if _, err := Reduce(corev1.SecretTypeDockerConfigJson, []byte(value), nil); err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: %v", value, err)
			}
		}
	})
}

func TestLogins(t *testing.T) {
	list := []corev1.Secret{
		secret("one", corev1.SecretTypeDockerConfigJson, three),
		secret("two", corev1.SecretTypeDockercfg, `{"reg.example.com/team":{"username":"b","password":"pw2","registrytoken":"bearer"}}`),
		secret("none", corev1.SecretTypeOpaque, ""),
	}
	for image, want := range map[string][]credentialprovider.AuthConfig{
		"reg.example.com/team/app": {{Username: "b", Password: "pw2", RegistryToken: "bearer"}, {Username: "a", Password: "pw"}},
		"busybox":                  {{Username: "user", Password: "pw"}},
		"my.azure.example/team/x":  {{IdentityToken: "long-lived"}},
		"other.example/app":        {},
	} {
		got, err := Logins(list, image)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", image, err, diff)
		}
	}
	if _, err := Logins([]corev1.Secret{secret("bad", corev1.SecretTypeDockerConfigJson, `{"auths":{"a.example":{"auth":"hunter2"}}}`)}, "a.example/x"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func TestFor(t *testing.T) {
	s := secret("one", corev1.SecretTypeDockercfg, `{"a.example":{"auth":"x"},"b.example":{}}`)
	if got, err := For(&s, "a.example/app"); err != nil || string(got) != `{"auths":{"a.example":{"auth":"x"}}}` {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := For(&s, "c.example/app"); err != nil || got != nil {
		t.Errorf("%s, %v", got, err)
	}
}
