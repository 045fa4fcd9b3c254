// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/chart"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

func newCloneSet(ns, name string, replicas int32) *v1beta1.CloneSet {
	labels := map[string]string{"app": name}
	return &v1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v1beta1.CloneSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: v1beta1.CloneSetUpdateStrategy{RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
			}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example/app:v1"}}},
			},
		},
	}
}

func change(t *testing.T, cs *v1beta1.CloneSet, f func()) {
	t.Helper()
	await.That(t, "the CloneSet can be changed", func() error {
		if err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs); err != nil {
			return err
		}
		f()
		return kube.Update(t.Context(), cs)
	})
}

func settled(t *testing.T, cs *v1beta1.CloneSet, n int32) {
	t.Helper()
	await.That(t, "the CloneSet is settled", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs)
		if s := cs.Status; err == nil && (s.ObservedGeneration != cs.Generation || s.Replicas != n || s.UpdatedReadyReplicas != n) {
			err = fmt.Errorf("status %+v", s)
		}
		return err
	})
}

// answerPulls reports every unfinished task as succeeded, with the rights of the node's agent.
func answerPulls(t *testing.T) error {
	t.Helper()
	var list v1beta1.NodeImageList
	if err := kube.List(t.Context(), &list); err != nil {
		return err
	}
	for i := range list.Items {
		n := &list.Items[i]
		status, news := v1beta1.NodeImageStatus{ImageStatuses: map[string]v1beta1.ImageStatus{}}, false
		for name, entry := range n.Spec.Images {
			var tags []v1beta1.ImageTagStatus
			for _, tag := range entry.Tags {
				status.Desired++
				status.Succeeded++
				tags = append(tags, v1beta1.ImageTagStatus{Tag: tag.Tag, Version: tag.Version, Phase: v1beta1.ImagePhaseSucceeded, CompletionTime: new(metav1.Now())})
				news = news || !slices.ContainsFunc(n.Status.ImageStatuses[name].Tags, func(s v1beta1.ImageTagStatus) bool {
					return s.Tag == tag.Tag && s.Version == tag.Version && s.Phase == v1beta1.ImagePhaseSucceeded
				})
			}
			status.ImageStatuses[name] = v1beta1.ImageStatus{Tags: tags}
		}
		if !news { // another job may have asked for the same image before
			continue
		}
		n.Status = status
		agent := as(t, daemonUser, map[string][]string{"authentication.kubernetes.io/node-name": {n.Name}})
		if err := agent.Status().Update(t.Context(), n); err != nil && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

// pullJobWorks: a job with a pull secret succeeds, by the rights of manager and agent.
func pullJobWorks(t *testing.T, ns string) {
	t.Helper()
	must(t, kube.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "registry"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	}))
	var nodes v1beta1.NodeImageList
	await.That(t, "every node has a NodeImage", func() error {
		must(t, kube.List(t.Context(), &nodes))
		return unless(len(nodes.Items) == 3, "%d", len(nodes.Items))
	})
	job := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "job"}, Spec: v1beta1.ImagePullJobSpec{
		Image: "registry.example/app:v1", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{
			Parallelism: new(intstr.FromInt32(3)), PullSecrets: []string{"registry"},
		},
	}}
	must(t, kube.Create(t.Context(), job))
	agent := as(t, daemonUser, nil)
	await.That(t, "the agents can read the copy of the secret", func() error {
		must(t, kube.List(t.Context(), &nodes))
		for i := range nodes.Items {
			for _, image := range nodes.Items[i].Spec.Images {
				for _, ref := range image.PullSecrets {
					return agent.Get(t.Context(), client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, &corev1.Secret{})
				}
			}
		}
		return errors.New("no NodeImage names one")
	})
	await.That(t, "the job succeeds", func() error {
		if err := answerPulls(t); err != nil {
			return err
		}
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(job), job)
		return unless(err == nil && job.Status.Succeeded == 3 && job.Status.CompletionTime != nil, "%+v %v", job.Status, err)
	})
}

// rare are rights that this test does not make the manager use, and why it needs them.
var rare = map[string]string{
	"patch pods/resize":                                  "gate InPlaceWorkloadVerticalScaling",
	"patch persistentvolumeclaims":                       "claims that a pod took over from another",
	"update clonesets/finalizers.apps.kruise.io":         "asked for by the admission plugin OwnerReferencesPermissionEnforcement, for owners that block deletion",
	"update imagelistpulljobs/finalizers.apps.kruise.io": "the same",
	"delete configmaps":                                  "a barrier that a former pod of the same name left behind",
	"update nodeimages/status.apps.kruise.io":            "the status of images that are no longer wanted",
	"read leases.coordination.k8s.io":                    "the audit policy of the lab leaves these out",
}

// everyRightIsUsed lets the manager do everything that its features do, and asks the audit log which rights it needed:
// nothing may be refused, and no right may be left over (security 5.1).
func everyRightIsUsed(t *testing.T) {
	if theLab.AuditLog() == "" {
		t.Skip("this cluster has no audit log")
	}
	o, err := chart.Template(t.Context(), "--set", "crds.managed=false")
	must(t, err)
	useEverything(t)
	used, refused := auditedRights(t, managerUser, 0)
	for _, key := range slices.Sorted(maps.Keys(o)) {
		u := o[key]
		if !strings.HasSuffix(u.GetKind(), "Role") || !ofManager(t, o, u) {
			continue
		}
		var role rbacv1.ClusterRole // a Role has the same rules
		toTyped(t, u, &role)
		for _, rule := range role.Rules {
			for _, right := range rights(rule) {
				if _, ok := rare[right]; !used[right] && !ok {
					t.Errorf("%s: %s is not used", key, right)
				}
			}
		}
	}
	for right, uri := range refused {
		if !used[right] { // else it was for another reason, such as a namespace on its way out
			t.Errorf("forbidden: %s: %s", right, uri)
		}
	}
}

// rights are a rule's single rights, as "verb resource.group". Getting, listing and watching are one, "read": caches list
// where the apiserver cannot stream, and a live read settles what a lost answer left open. Of events, one group is used.
func rights(rule rbacv1.PolicyRule) []string {
	var out []string
	for _, group := range rule.APIGroups {
		for _, res := range rule.Resources {
			if group == "" && res == "events" && len(rule.APIGroups) > 1 {
				continue
			}
			for _, verb := range rule.Verbs {
				out = append(out, reading(verb)+" "+schema.GroupResource{Group: group, Resource: res}.String())
			}
		}
	}
	return out
}

// reading is "read" for the three verbs that read.
func reading(verb string) string {
	if slices.Contains([]string{"get", "list", "watch"}, verb) {
		return "read"
	}
	return verb
}

// auditEnd is where the audit log ends now.
func auditEnd(t *testing.T) int64 {
	t.Helper()
	if theLab.AuditLog() == "" {
		return 0
	}
	end, err := lab.AuditEnd(theLab.AuditLog())
	must(t, err)
	return end
}

// auditedRights returns what a ServiceAccount asked for and got since a place in the audit log, and a URI of what it did
// not get.
func auditedRights(t *testing.T, user string, from int64) (used map[string]bool, refused map[string]string) {
	t.Helper()
	used, refused = map[string]bool{}, map[string]string{}
	if theLab.AuditLog() == "" {
		return used, refused
	}
	for e, err := range lab.AuditEntries(theLab.AuditLog(), from) {
		must(t, err)
		if e.User != user {
			continue
		}
		resource := e.Resource
		if e.Subresource != "" {
			resource += "/" + e.Subresource
		}
		right := reading(e.Verb) + " " + schema.GroupResource{Group: e.Group, Resource: resource}.String()
		if e.Code == http.StatusForbidden {
			refused[right] = e.URI
		} else {
			used[right] = true
		}
	}
	return used, refused
}

// ofManager tells whether a role is bound to the manager.
func ofManager(t *testing.T, o chart.Objects, role *unstructured.Unstructured) bool {
	t.Helper()
	for _, u := range o {
		var b rbacv1.ClusterRoleBinding
		if u.GetKind() != role.GetKind()+"Binding" || u.GetNamespace() != role.GetNamespace() {
			continue
		}
		toTyped(t, u, &b)
		if b.RoleRef.Name == role.GetName() && b.Subjects[0].Name == "kruise-manager" {
			return true
		}
	}
	return false
}

// useEverything makes objects of every kind that has a controller, and lets them live their lives.
func useEverything(t *testing.T) {
	t.Helper()
	ns := namespace(t, nil)
	for n := range 3 { // the lab has no provisioner
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", ns, n)}, Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: ns, PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
		}}
		must(t, kube.Create(t.Context(), pv))
		t.Cleanup(func() { _ = kube.Delete(context.Background(), pv) })
	}
	cs := newCloneSet(ns, "web", 3)
	cs.Spec.RevisionHistoryLimit = new(int32(1))
	cs.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
		ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &ns,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}}
	must(t, kube.Create(t.Context(), cs))
	settled(t, cs, 3)
	for n := range 4 {
		change(t, cs, func() {
			cs.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("registry.example/app:v%d", n+2)
		})
		settled(t, cs, 3)
	}
	change(t, cs, func() { cs.Spec.Template.Spec.Containers[0].Image = "registry.example/app:v4" }) // a revision that exists
	settled(t, cs, 3)
	var pods corev1.PodList
	must(t, kube.List(t.Context(), &pods, client.InNamespace(ns)))
	change(t, cs, func() {
		cs.Spec.Replicas, cs.Spec.ScaleStrategy.PodsToDelete = new(int32(2)), []string{pods.Items[0].Name}
	})
	settled(t, cs, 2)
	await.That(t, "podsToDelete is emptied", func() error {
		must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs))
		return unless(len(cs.Spec.ScaleStrategy.PodsToDelete) == 0, "%v", cs.Spec.ScaleStrategy.PodsToDelete)
	})
	must(t, kube.List(t.Context(), &pods, client.InNamespace(ns)))
	request := &v1beta1.ContainerRecreateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "restart"},
		Spec: v1beta1.ContainerRecreateRequestSpec{
			PodName: pods.Items[0].Name, Containers: []v1beta1.ContainerRecreateRequestContainer{{Name: "app"}},
			Strategy:              &v1beta1.ContainerRecreateRequestStrategy{UnreadyGracePeriodSeconds: new(int64(1))},
			ActiveDeadlineSeconds: new(int64(3)), TTLSecondsAfterFinished: new(int32(1)),
		},
	}
	must(t, kube.Create(t.Context(), request))
	list := &v1beta1.ImageListPullJob{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "list"}, Spec: v1beta1.ImageListPullJobSpec{
		Images: []string{"registry.example/a:1", "registry.example/b:1"}, ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{
			Parallelism: new(intstr.FromInt32(3)), CompletionPolicy: v1beta1.CompletionPolicy{TTLSecondsAfterFinished: new(int32(2))},
		},
	}}
	must(t, kube.Create(t.Context(), list))
	pull := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "brief"}, Spec: v1beta1.ImagePullJobSpec{
		Image: "registry.example/c:1", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{CompletionPolicy: v1beta1.CompletionPolicy{TTLSecondsAfterFinished: new(int32(1))}},
	}}
	must(t, kube.Create(t.Context(), pull))
	ordered := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "ordered", Annotations: map[string]string{"apps.kruise.io/container-launch-priority": "Ordered"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "i"}, {Name: "b", Image: "i"}}},
	}
	must(t, kube.Create(t.Context(), ordered))
	await.That(t, "jobs and requests end and go, containers are let go", func() error {
		if err := answerPulls(t); err != nil {
			return err
		}
		for _, obj := range []client.Object{request, list, pull} {
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%T %s is there (%w)", obj, obj.GetName(), err)
			}
		}
		must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(ordered), ordered))
		return unless(ordered.Annotations["apps.kruise.io/container-launch-priority-completed"] == "true", "%v", ordered.Annotations)
	})

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "brief"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	ready := node.Status
	must(t, kube.Create(t.Context(), node))
	image := &v1beta1.NodeImage{}
	await.That(t, "the node is ready", func() error {
		must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(node), node))
		node.Status.Conditions = ready.Conditions
		return kube.Status().Update(t.Context(), node)
	})
	await.That(t, "the node has a NodeImage", func() error { return kube.Get(t.Context(), client.ObjectKey{Name: "brief"}, image) })
	must(t, kube.Delete(t.Context(), node))
	await.That(t, "the NodeImage goes", func() error {
		err := kube.Get(t.Context(), client.ObjectKey{Name: "brief"}, image)
		return unless(apierrors.IsNotFound(err), "%v", err)
	})
	must(t, kube.Delete(t.Context(), cs))
	await.That(t, "the pods go", func() error {
		must(t, kube.List(t.Context(), &pods, client.InNamespace(ns), client.MatchingLabels{"app": "web"}))
		return unless(len(pods.Items) == 0, "%d", len(pods.Items))
	})
}

// pieceIsMissing: an operator leaves out a piece of the manager's rights. What needs it says so, all else works.
func pieceIsMissing(t *testing.T, m *cluster.Manager) {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "kruise-manager-pullsecret-role"}}
	must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(role), role))
	must(t, kube.Delete(t.Context(), role))
	await.That(t, "the right is gone", func() error {
		return unless(!can(t, managerUser, "get secrets -n default"), "the manager may still get secrets")
	})
	ns := namespace(t, nil)
	job := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "job"}, Spec: v1beta1.ImagePullJobSpec{
		Image: "registry.example/private:v1", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{PullSecrets: []string{"registry"}},
	}}
	must(t, kube.Create(t.Context(), job))
	await.That(t, "the missing right is reported", func() error {
		resp, err := http.Get(m.Metrics)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		return unless(strings.Contains(string(text), `kruise_missing_permission_total{group="",resource="secrets",verb="get"}`), "no such metric")
	})
	rolloutWorks(t)
	role.ResourceVersion, role.UID = "", ""
	must(t, kube.Create(t.Context(), role))
	must(t, kube.Delete(t.Context(), job))
	await.That(t, "with the right, the job goes", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(job), job)
		return unless(apierrors.IsNotFound(err), "%v", err)
	})
}

// secretsAreFollowed: a copy of a pull secret changes with its source, not five minutes later (security 5.1).
func secretsAreFollowed(t *testing.T) {
	startManager(t, "--feature-gates=ImagePullJobGate=true", "--watch-pull-secrets")
	ns := namespace(t, nil)
	job := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "endless"}, Spec: v1beta1.ImagePullJobSpec{
		Image: "registry.example/private:v1", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{
			PullSecrets: []string{"registry"}, CompletionPolicy: v1beta1.CompletionPolicy{Type: v1beta1.Never},
		},
	}}
	must(t, kube.Create(t.Context(), job))
	await.That(t, "the job misses its secret", func() error {
		must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(job), job))
		return unless(strings.Contains(job.Status.Message, "pull secrets not found: registry"), "%q", job.Status.Message)
	})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "registry"}, Type: corev1.SecretTypeDockerConfigJson}
	for _, password := range []string{"first", "second"} {
		secret.Data = map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{"registry.example":{"username":"u","password":%q}}}`, password)}
		if secret.UID == "" {
			must(t, kube.Create(t.Context(), secret))
		} else {
			must(t, kube.Update(t.Context(), secret))
		}
		await.That(t, "the copy holds the "+password+" password", func() error {
			var copies corev1.SecretList
			must(t, kube.List(t.Context(), &copies, client.InNamespace("kruise-daemon-config")))
			for _, c := range copies.Items {
				if c.Annotations[v1beta1.ImagePullJobSourceSecretKey] == ns+"/registry" && strings.Contains(string(c.Data[corev1.DockerConfigJsonKey]), password) {
					return nil
				}
			}
			return errors.New("no such copy")
		})
	}
	must(t, kube.Delete(t.Context(), job))
	await.That(t, "the job goes", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(job), job)
		return unless(apierrors.IsNotFound(err), "%v", err)
	})
}

// sample is the object of config/samples of a kind, in a namespace if it has one.
func sample(t *testing.T, kind, ns string) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart.Dir(), "..", "..", "config", "samples", "apps_v1beta1_"+strings.ToLower(kind)+".yaml"))
	must(t, err)
	u := &unstructured.Unstructured{}
	must(t, yaml.Unmarshal(text, &u.Object))
	if u.GetNamespace() != "" {
		u.SetNamespace(ns)
	}
	return u
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
