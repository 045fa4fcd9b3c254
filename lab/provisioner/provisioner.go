// SPDX-License-Identifier: Apache-2.0

// Package provisioner gives the claims of pods on real nodes their volumes: directories on the node's disk. Claims of the
// storage class may grow, which only changes numbers.
package provisioner

import (
	"context"
	"fmt"
	"log"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Name is how the process is called; Class is the storage class.
const (
	Name  = "lab-provisioner"
	Class = "lab"

	driver       = "lab.kruise.io/node-disk"
	selectedNode = "volume.kubernetes.io/selected-node"
	// interval is the time between two looks at all claims. A lab has few.
	interval = 500 * time.Millisecond
)

// Run provisions until it is killed. It returns the exit code.
func Run(kubeconfig string) int {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		log.Print(err)
		return 1
	}
	cfg.UserAgent = Name
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		log.Print(err)
		return 1
	}
	for ctx := context.Background(); ; time.Sleep(interval) {
		if err := round(ctx, c); err != nil {
			log.Print(err)
		}
	}
}

// EnsureClass creates the storage class. It is the cluster's default.
func EnsureClass(ctx context.Context, c kubernetes.Interface) error {
	reclaim, binding, grows := corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingWaitForFirstConsumer, true
	class := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: Class, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: driver, ReclaimPolicy: &reclaim, VolumeBindingMode: &binding, AllowVolumeExpansion: &grows,
	}
	if _, err := c.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("storage class %s: %w", Class, err)
	}
	return nil
}

// round looks at all claims and volumes once.
func round(ctx context.Context, c kubernetes.Interface) error {
	// From the apiserver's cache: this is asked for often, and a late answer does no harm.
	claims, err := c.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		if claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != Class || claim.DeletionTimestamp != nil {
			continue
		}
		if claim.Spec.VolumeName == "" {
			err = provision(ctx, c, claim)
		} else {
			err = grow(ctx, c, claim)
		}
		if err != nil {
			return fmt.Errorf("claim %s/%s: %w", claim.Namespace, claim.Name, err)
		}
	}
	volumes, err := c.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for i := range volumes.Items {
		v := &volumes.Items[i]
		if v.Spec.StorageClassName != Class || v.Status.Phase != corev1.VolumeReleased {
			continue
		}
		// The directory stays until the lab goes.
		if err := c.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}

// provision makes the volume of a claim once the scheduler has chosen a node.
func provision(ctx context.Context, c kubernetes.Interface, claim *corev1.PersistentVolumeClaim) error {
	node := claim.Annotations[selectedNode]
	if node == "" {
		return nil
	}
	name, kind := "pvc-"+string(claim.UID), corev1.HostPathDirectoryOrCreate
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": driver}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			StorageClassName:              Class,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/lab-volumes/" + name, Type: &kind}},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	}
	if _, err := c.CoreV1().PersistentVolumes().Create(ctx, v, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// grow gives a bound claim the size that it asks for.
func grow(ctx context.Context, c kubernetes.Interface, claim *corev1.PersistentVolumeClaim) error {
	want := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if have := claim.Status.Capacity[corev1.ResourceStorage]; claim.Status.Phase != corev1.ClaimBound || want.Cmp(have) <= 0 {
		return nil
	}
	v, err := c.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	v.Spec.Capacity[corev1.ResourceStorage] = want
	if _, err := c.CoreV1().PersistentVolumes().Update(ctx, v, metav1.UpdateOptions{}); err != nil {
		return err
	}
	claim = claim.DeepCopy()
	claim.Status.Capacity[corev1.ResourceStorage] = want
	claim.Status.Conditions = nil
	_, err = c.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
	return err
}
