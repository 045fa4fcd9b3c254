// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/internal/node/cri/fakecri"
)

// Every manifest of the documentation works as it is pasted, next to a pod of the name that it uses.
func TestDocs(t *testing.T) {
	w := newWorld(t)
	p := w.runningPod("web-abc12", freeNode(t), "a0", &fakecri.Server{}, func(p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "proxy", Image: "registry.example/proxy:v1"})
	})
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: "proxy", ContainerID: "containerd://b0", Image: "x", ImageID: "y"})
	w.must(w.Status().Update(w.ctx, p))
	for page, least := range map[string]int{"image-pulling": 7, "container-restart": 2, "container-launch-priority": 2} {
		text, err := os.ReadFile("../../../docs/" + page + ".md")
		w.must(err)
		blocks := strings.Split(string(text), "```yaml\n")[1:]
		if len(blocks) < least {
			t.Errorf("%d manifests in %s", len(blocks), page)
		}
		for _, block := range blocks {
			manifest, _, _ := strings.Cut(block, "```")
			u := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(manifest), &u.Object); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, manifest)
				continue
			}
			if u.GetKind() != "NodeImage" {
				u.SetNamespace(w.namespace)
			}
			// A dry run: some of the jobs are for all nodes, also those of other tests.
			if err := w.Create(w.ctx, u, client.DryRunAll); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, manifest)
			}
		}
	}
}
