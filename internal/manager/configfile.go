// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Kind and version of the file of --config.
const (
	configKind    = "ManagerConfiguration"
	configVersion = "config.kruise.io/v1alpha1"
)

// applyFile gives flags that are not on the command line the values of the file (platform W11). Names are those of the
// flags; a list is what the flag takes separated by commas, a map likewise as name=value. What is unknown is an error.
func (f *Flags) applyFile(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var file struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Flags      map[string]any `json:"flags"`
	}
	if err := yaml.UnmarshalStrict(content, &file); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	if file.APIVersion != configVersion || file.Kind != configKind {
		return fmt.Errorf("--config %s: %s %s is not %s %s", path, file.APIVersion, file.Kind, configVersion, configKind)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(file.Flags)) {
		fl := f.set.Lookup(name)
		value, ok := flagText(file.Flags[name])
		switch {
		case fl == nil || name == "config":
			errs = append(errs, fmt.Errorf("there is no flag --%s", name))
		case !ok:
			errs = append(errs, fmt.Errorf("flag --%s: a value, a list or a map of values is expected", name))
		case !fl.Changed:
			if err := f.set.Set(name, value); err != nil {
				errs = append(errs, fmt.Errorf("flag --%s: %w", name, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("--config %s: %w", path, err)
	}
	return nil
}

// flagText is a value of YAML as a flag takes it.
func flagText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64: // what every number is
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case []any:
		parts := make([]string, 0, len(v))
		for _, e := range v {
			text, ok := scalar(e)
			if !ok {
				return "", false
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), true
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			text, ok := scalar(v[name])
			if !ok {
				return "", false
			}
			parts = append(parts, name+"="+text)
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}

func scalar(v any) (string, bool) {
	switch v.(type) {
	case []any, map[string]any, nil:
		return "", false
	}
	return flagText(v)
}
