// SPDX-License-Identifier: Apache-2.0

// Command genops fills the tables of docs/operations.md from the code: flags, environment variables, feature gates,
// metrics and webhooks (platform W25).
//
// Usage: genops <docs/operations.md>
package main

import (
	"fmt"
	"log"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"kruise.io/kruise/internal/manager"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/webhooks"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: genops <docs/operations.md>")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(path string) error {
	flags, err := manager.ParseFlags(nil)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path) //nolint:gosec // named by the developer
	if err != nil {
		return err
	}
	page := string(data)
	for name, table := range map[string][]string{
		"flags": flagTable(flags), "environment": environmentTable(), "gates": gateTable(), "metrics": metricTable(), "webhooks": webhookTable(),
	} {
		if page, err = replace(page, name, strings.Join(table, "\n")); err != nil {
			return err
		}
	}
	return os.WriteFile(path, []byte(page), 0o644) //nolint:gosec // documentation
}

// replace puts text between the comments "generated: name" and "end".
func replace(page, name, text string) (string, error) {
	begin := "<!-- generated: " + name + " -->\n"
	before, rest, ok := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, "<!-- end -->")
	if !ok || !ended {
		return "", fmt.Errorf("there is no section %q", name)
	}
	return before + begin + text + "\n<!-- end -->" + after, nil
}

func row(cells ...string) string {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.ReplaceAll(c, "|", "\\|"), "\n", " ")
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func code(s string) string {
	if s == "" {
		return "–"
	}
	return "`" + s + "`"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "not yet"
}

func flagTable(f *manager.Flags) []string {
	out := []string{"| Flag | Default | Effective | Meaning |", "|---|---|---|---|"}
	for _, d := range f.Docs() {
		out = append(out, row(code("--"+d.Name), code(strings.Trim(d.Default, "[]")), yes(d.Effective), d.Doc))
	}
	return out
}

func environmentTable() []string {
	out := []string{"| Variable | Default | Meaning |", "|---|---|---|"}
	for _, v := range manager.Environment() {
		out = append(out, row(code(v.Name), code(v.Default), v.Doc))
	}
	return out
}

func gateTable() []string {
	out := []string{"| Gate | Default | Stage | Effective | Effect |", "|---|---|---|---|---|"}
	for _, g := range gates.All() {
		stage := "alpha"
		if g.Beta {
			stage = "beta"
		}
		out = append(out, row(code(string(g.Name)), fmt.Sprint(g.Default), stage, yes(g.Effective), g.Doc))
	}
	return out
}

// description is how client_golang prints a metric's description, the only way to get at its parts.
var description = regexp.MustCompile(`fqName: "([^"]*)", help: "(.*?)",(?: unit: "[^"]*",)? constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}`)

// library metrics are described by prefix; everything else is ours.
var library = regexp.MustCompile(`^(controller_runtime|workqueue|rest_client|leader_election|certwatcher|go|process)_`)

func metricTable() []string {
	ch := make(chan *prometheus.Desc)
	go func() {
		defer close(ch)
		ctrlmetrics.Registry.(prometheus.Collector).Describe(ch)
	}()
	var rows []string
	for d := range ch {
		if m := description.FindStringSubmatch(d.String()); m != nil && !library.MatchString(m[1]) {
			labels := ""
			if m[3] != "" {
				labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
			}
			rows = append(rows, row(code(m[1]), labels, m[2]))
		}
	}
	slices.Sort(rows)
	return append([]string{"| Metric | Labels | Meaning |", "|---|---|---|"}, slices.Compact(rows)...)
}

func webhookTable() []string {
	out := []string{"| Webhook | Path | Operations | Resources | Gate |", "|---|---|---|---|---|"}
	for _, e := range webhooks.Inventory() {
		var ops []string
		for _, o := range e.Operations {
			ops = append(ops, strings.ToLower(string(o)))
		}
		if slices.Contains(e.Operations, admissionv1.OperationAll) {
			ops = []string{"all"}
		}
		out = append(out, row(code(e.Name), code(e.Path), strings.Join(ops, ", "), strings.Join(e.Resources, ", "), code(string(e.Gate))))
	}
	return out
}
