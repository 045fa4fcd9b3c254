// SPDX-License-Identifier: Apache-2.0

package integration

import "kruise.io/kruise/api/apps/pub"

// blockLabel is the label with which tests hold pods in hooks.
const blockLabel = "example.io/block"

// hook is a lifecycle hook on blockLabel.
func hook() *pub.LifecycleHook {
	return &pub.LifecycleHook{LabelsHandler: map[string]string{blockLabel: "true"}}
}
