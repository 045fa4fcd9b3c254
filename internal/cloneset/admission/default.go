// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"

	"kruise.io/kruise/internal/template"
)

// document is the JSON of a CloneSet of either version, decoded. Defaults are added to it rather than to a typed object,
// so that fields we do not know survive.
type document map[string]any

// setDefaults adds the defaults of cloneset 3.1 to d, an object of version v. old is the stored object, nil on CREATE:
// templates are only defaulted where they changed, because a default must never alter what is stored (cloneset 7.1).
func setDefaults(d, old document, v version, o Options) error {
	spec, err := child(d, "spec", "spec")
	if err != nil {
		return err
	}
	missing(spec, "replicas", int64(1))
	missing(spec, "revisionHistoryLimit", int64(10))
	strategy, err := child(spec, "updateStrategy", "spec.updateStrategy")
	if err != nil {
		return err
	}
	if err := setStrategyDefaults(strategy, v); err != nil {
		return err
	}
	if o.TemplateNoDefaults {
		return nil
	}
	oldSpec, _ := old["spec"].(map[string]any)
	return setTemplateDefaults(spec, oldSpec, o)
}

// setStrategyDefaults adds the defaults of a rolling update. Type OnDelete gets none.
func setStrategyDefaults(strategy map[string]any, v version) error {
	rolling, policyKey := strategy, "type"
	if v == v1beta1Version {
		missing(strategy, "type", "RollingUpdate")
		if strategy["type"] != "RollingUpdate" {
			return nil
		}
		var err error
		if rolling, err = child(strategy, "rollingUpdate", "spec.updateStrategy.rollingUpdate"); err != nil {
			return err
		}
		policyKey = "podUpdatePolicy"
	}
	missing(rolling, policyKey, "ReCreate")
	policy := rolling[policyKey]
	if policy == "OnDelete" {
		return nil
	}
	missing(rolling, "partition", int64(0))
	missing(rolling, "maxUnavailable", "20%")
	missing(rolling, "maxSurge", int64(0))
	if policy == "InPlaceIfPossible" || policy == "InPlaceOnly" {
		missing(rolling, "inPlaceUpdateStrategy", map[string]any{})
	}
	return nil
}

func setTemplateDefaults(spec, oldSpec map[string]any, o Options) error {
	if raw, ok := spec["template"].(map[string]any); ok && !unchanged(spec, oldSpec, "template") {
		defaulted, err := template.AddDefaults(raw, o.HostPorts)
		if err != nil {
			return fmt.Errorf("spec.template: %w", err)
		}
		spec["template"] = defaulted
	}
	claims, ok := spec["volumeClaimTemplates"].([]any)
	if !ok || unchanged(spec, oldSpec, "volumeClaimTemplates") {
		return nil
	}
	for i, claim := range claims {
		raw, ok := claim.(map[string]any)
		if !ok {
			continue
		}
		defaulted, err := template.AddClaimDefaults(raw)
		if err != nil {
			return fmt.Errorf("spec.volumeClaimTemplates[%d]: %w", i, err)
		}
		claims[i] = defaulted
	}
	return nil
}

// unchanged tells whether a field is the same as in the stored object.
func unchanged(spec, oldSpec map[string]any, field string) bool {
	return oldSpec != nil && equality.Semantic.DeepEqual(spec[field], oldSpec[field])
}

// missing sets a field that is absent, null or, as an absent string would be, empty.
func missing(fields map[string]any, key string, value any) {
	if current, ok := fields[key]; !ok || current == nil || current == "" {
		fields[key] = value
	}
}

// child returns the object in a field, which it creates if it is absent or null.
func child(parent map[string]any, key, path string) (map[string]any, error) {
	switch value := parent[key].(type) {
	case map[string]any:
		return value, nil
	case nil:
		out := map[string]any{}
		parent[key] = out
		return out, nil
	default:
		return nil, fmt.Errorf("%s: is %T, not an object", path, value)
	}
}
