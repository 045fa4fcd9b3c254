// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// TestOddValues: what looks like a number, a truth value or YAML is a string all the same where a string is meant: every
// object that is rendered is what the apiserver takes for its kind, and no text is lost.
func TestOddValues(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]string{"number": "123", "exponent": "1e3", "truth": "true", "null": "null", "comment": "a #b", "colon": "a: b", "list": "[a", "quote": `a"b`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := Release
			if name == "number" || name == "exponent" {
				release = odd
			}
			args := []string{
				"template", release, Dir(), "--set", "crds.managed=false,secretDelivery=broker,manager.separateControllers.enabled=true,certManager.enabled=true",
				"--set", "monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.grafanaDashboard.enabled=true",
				"--set", "daemon.credentialProvider.enable=true,helmHooks.storageMigration=always",
			}
			set := 0
			for _, v := range textValues(t) {
				if slices.Contains([]string{"featureGates", "daemon.maxUnavailable", "manager.podDisruptionBudget.minAvailable"}, v.name) {
					continue // gates, and numbers or percentages
				}
				value := any(odd)
				if v.list {
					value = []string{odd}
				} else if v.object {
					value = map[string]string{"example.com/a": odd}
				}
				raw, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				text := v.name + "=" + string(raw)
				if strings.HasSuffix(strings.ToLower(v.name), "namespace") && (len(validation.IsDNS1123Label(odd)) > 0 || v.name == "installation.daemonConfigNamespace") {
					continue // no namespace can have that name, or all would
				}
				args = append(args, "--set-json", text)
				set++
			}
			text, _, err := Helm(t.Context(), "/dev/null", args...)
			if err != nil {
				t.Fatal(err)
			}
			if set < 30 {
				t.Errorf("only %d values are set", set)
			}
			strict(t, text)
		})
	}
}

// TestNullValues: a value that may be null can be, and does no harm.
func TestNullValues(t *testing.T) {
	t.Parallel()
	args := []string{"template", Release, Dir(), "--set", "crds.managed=false,securityProfile=standard,certManager.enabled=true",
		"--set", "monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.grafanaDashboard.enabled=true"}
	nullable := 0
	walkSchema(t, func(name string, schema map[string]any) {
		enum, _ := schema["enum"].([]any)
		types, _ := schema["type"].([]any)
		if slices.Contains(types, "null") || slices.Contains(enum, nil) {
			args = append(args, "--set-json", name+"=null")
			nullable++
		}
	})
	text, _, err := Helm(t.Context(), "/dev/null", args...)
	if err != nil {
		t.Fatal(err)
	}
	if nullable < 25 {
		t.Errorf("only %d values", nullable)
	}
	strict(t, text)
	o, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.Text(managers); strings.Contains(got, "null") {
		t.Errorf("no source at all:\n%s", got)
	}
}

// strict decodes every document as the apiserver does.
func strict(t *testing.T, text string) {
	t.Helper()
	decoder := serializer.NewCodecFactory(clientscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name        string            `json:"name"`
				Namespace   string            `json:"namespace"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Errorf("%v in:\n%s", err, doc)
			continue
		}
		if head.Kind == "" || strings.Contains(head.APIVersion, "cert-manager.io") || strings.Contains(head.APIVersion, "monitoring.coreos.com") {
			continue
		}
		if _, _, err := decoder.Decode([]byte(doc), nil, nil); err != nil {
			t.Errorf("%s %s: %v", head.Kind, head.Metadata.Name, err)
		}
	}
}

// textValue is a value that takes any text.
type textValue struct {
	name         string
	list, object bool
}

// textValues are the values that take any text, texts, or, as annotations and labels, texts by name.
func textValues(t *testing.T) []textValue {
	t.Helper()
	var out []textValue
	walkSchema(t, func(prefix string, schema map[string]any) {
		if schema["enum"] != nil {
			return
		}
		items, _ := schema["items"].(map[string]any)
		kind := fmt.Sprint(schema["type"])
		v := textValue{name: prefix, list: kind == "array" && (items == nil || items["type"] == "string")}
		v.object = kind == "object" && (strings.HasSuffix(prefix, "nnotations") || strings.HasSuffix(prefix, "abels") || strings.HasSuffix(prefix, "odeSelector"))
		if kind == "string" || v.list || v.object || strings.Contains(kind, "string ") {
			out = append(out, v)
		}
	})
	slices.SortFunc(out, func(a, b textValue) int { return strings.Compare(a.name, b.name) })
	return out
}
