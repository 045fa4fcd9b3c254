// SPDX-License-Identifier: Apache-2.0

// Package stages holds the KWOK Stages that play kubelet for simulated nodes. Every Stage is a YAML file of its own; what
// they share is in few files: decide.jq says what a kubelet would do with a pod now, status.tpl (and
// terminated.tpl, when all is over) what status it would report. docs/lab.md describes the behaviour and the annotations that steer it.
package stages

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

//go:embed *.yaml *.jq *.tpl
var content embed.FS

// Delays are the fixed times that simulated containers take. They are the same for every workload.
type Delays struct {
	Start   time.Duration // from a pod's arrival on its node to its containers running
	Restart time.Duration // from a container's stop for a restart to it running again
	Stop    time.Duration // from a pod's deletion to its end, cut off at the grace period
}

// Render returns all Stages as one YAML stream for KWOK. In the files, the word DECIDE stands for the program decide.jq
// and STATUS and TERMINATED, as a patch's template, for status.tpl and terminated.tpl.
func Render(d Delays) ([]byte, error) {
	decide, err := content.ReadFile("decide.jq")
	if err != nil {
		return nil, err
	}
	templates := map[string]string{}
	for word, name := range map[string]string{"STATUS": "status.tpl", "TERMINATED": "terminated.tpl"} {
		data, err := content.ReadFile(name)
		if err != nil {
			return nil, err
		}
		templates[word] = string(data)
	}
	fill := strings.NewReplacer(
		"RESTART_DELAY", d.Restart.String(), // before START_DELAY, which it ends with
		"START_DELAY", d.Start.String(),
		"STOP_SECONDS", strconv.FormatFloat(d.Stop.Seconds(), 'f', -1, 64),
	)
	files, err := fs.Glob(content, "*.yaml")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, name := range files {
		data, err := content.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var stage any
		if err := yaml.UnmarshalStrict(data, &stage); err != nil {
			return nil, fmt.Errorf("stage %s: %w", name, err)
		}
		stage = replace(stage, func(s string) string {
			if template, ok := templates[s]; ok {
				s = template
			}
			return fill.Replace(strings.Replace(s, "DECIDE", string(decide), 1))
		})
		rendered, err := yaml.Marshal(stage)
		if err != nil {
			return nil, fmt.Errorf("stage %s: %w", name, err)
		}
		out.WriteString("---\n")
		out.Write(rendered)
	}
	return out.Bytes(), nil
}

// replace applies f to all strings inside v.
func replace(v any, f func(string) string) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = replace(v[k], f)
		}
	case []any:
		for i := range v {
			v[i] = replace(v[i], f)
		}
	case string:
		return f(v)
	}
	return v
}
