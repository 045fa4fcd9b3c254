// SPDX-License-Identifier: Apache-2.0

package pub

const (
	// DeletionProtectionKey is the label that protects an object from deletion; its value is one of the two below.
	DeletionProtectionKey = "policy.kruise.io/delete-protection"
	// DeletionProtectionTypeAlways refuses every deletion.
	DeletionProtectionTypeAlways = "Always"
	// DeletionProtectionTypeCascading refuses deletion while the object has something underneath it.
	DeletionProtectionTypeCascading = "Cascading"
)

const (
	// TerminateSidecarWhenJobExitEnv marks, with value "true" in any letter case, a container of a job's pod that is ended
	// when the other containers are done (job-sidecar-terminator 2).
	TerminateSidecarWhenJobExitEnv = "KRUISE_TERMINATE_SIDECAR_WHEN_JOB_EXIT"
	// TerminateSidecarWhenJobExitWithImageEnv has the image that replaces such a container's on virtual nodes.
	TerminateSidecarWhenJobExitWithImageEnv = "KRUISE_TERMINATE_SIDECAR_WHEN_JOB_EXIT_WITH_IMAGE"
	// TerminateSidecarIgnoreExitCodeEnv leaves, with value "true", such a container's exit code out of the pod's result.
	TerminateSidecarIgnoreExitCodeEnv = "KRUISE_TERMINATE_SIDECAR_IGNORE_EXIT_CODE"

	// ContainerLaunchBarrierEnv is the environment variable by which a container waits for those of a higher priority:
	// a ConfigMap key reference whose key is "p_" and the priority (inplace-update 4.9).
	ContainerLaunchBarrierEnv = "KRUISE_CONTAINER_BARRIER"

	// VirtualKubeletLabelKey is the label of nodes that no agent runs on, with value VirtualKubeletLabelValue.
	VirtualKubeletLabelKey = "type"
	// VirtualKubeletLabelValue is the value of VirtualKubeletLabelKey.
	VirtualKubeletLabelValue = "virtual-kubelet"
)
