// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// class is what one target NodeImage means to a job (image-pulling 6).
type class int

const (
	classWaiting   class = iota // the node does not have the task yet
	classActive                 // the node works on it, or has not answered yet
	classSucceeded              // the image is there
	classFailed                 // the node gave up
)

// classify tells how far the job's task is on a NodeImage.
func classify(r *request, n *appsv1beta1.NodeImage) class {
	entry, ok := n.Spec.Images[r.image.Name]
	if !ok {
		return classWaiting
	}
	i := findTag(entry.Tags, r.image.Tag)
	if i < 0 || !ownedBy(&entry.Tags[i], r.job.UID) {
		return classWaiting
	}
	s := tagStatus(n, r.image.Name, r.image.Tag)
	if s == nil || s.Version != entry.Tags[i].Version {
		return classActive
	}
	switch s.Phase {
	case appsv1beta1.ImagePhaseSucceeded:
		return classSucceeded
	case appsv1beta1.ImagePhaseFailed:
		return classFailed
	default:
		return classActive
	}
}
