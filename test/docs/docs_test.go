// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"
)

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	code    = regexp.MustCompile("`[^`]+`")
	heading = regexp.MustCompile(`^#{1,6} +(.*)$`)
	target  = regexp.MustCompile(`\bmake ([a-z][a-z0-9/-]*)`)
	value   = regexp.MustCompile("`([a-zA-Z]+(?:\\.[a-zA-Z]+)+)(?:=[^`]*|: [^`]*)?`")
	path    = regexp.MustCompile("^(api|charts|client|cmd|config|demo|docs|hack|images|internal|lab|test|tools)/[A-Za-z0-9_./-]*$")
)

// anchors returns the names of a page's headings as forges make them.
func anchors(p *Page) map[string]bool {
	names := map[string]bool{}
	for _, line := range p.Prose {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		text := link.ReplaceAllString(strings.NewReplacer("`", "", "*", "").Replace(m[1]), "")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(text))
		names[name] = true
	}
	return names
}

func pages(t *testing.T) map[string]*Page {
	t.Helper()
	names, err := Pages()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Page{}
	for _, name := range names {
		if out[name], err = Read(name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Every link into the repository leads somewhere, also to the heading that it names.
func TestLinks(t *testing.T) {
	all := pages(t)
	count := 0
	for name, page := range all {
		for i, line := range page.Prose {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
				u, err := url.Parse(m[1])
				if err != nil {
					t.Errorf("%s:%d: %v", name, i+1, err)
					continue
				}
				if u.IsAbs() {
					continue
				}
				count++
				to := name
				if u.Path != "" {
					to = filepath.Join(filepath.Dir(name), u.Path)
				}
				if _, err := os.Stat(filepath.Join(Root(), to)); err != nil {
					t.Errorf("%s:%d: %s leads nowhere", name, i+1, m[1])
					continue
				}
				if u.Fragment == "" {
					continue
				}
				if p := all[to]; p == nil || !anchors(p)[u.Fragment] {
					t.Errorf("%s:%d: %s has no heading #%s", name, i+1, to, u.Fragment)
				}
			}
		}
	}
	if count < 100 {
		t.Errorf("only %d links found", count)
	}
}

// What is named like a file of this repository is one, and what is called a target of make is one.
func TestNames(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(Root(), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(where, text string) {
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s: there is no target %q", where, m[1])
			}
		}
	}
	for name, page := range pages(t) {
		for _, b := range page.Blocks {
			if b.Language == "" || b.Language == "sh" {
				check(b.String(), b.Text)
			}
		}
		for _, line := range page.Prose {
			for _, quoted := range code.FindAllString(line, -1) {
				text := strings.Trim(quoted, "`")
				check(name, text)
				if !path.MatchString(text) {
					continue
				}
				if _, err := os.Stat(filepath.Join(Root(), text)); err != nil {
					t.Errorf("%s: there is no %s", name, text)
				}
			}
		}
	}
}

// Every block of YAML parses; what is not marked as a fragment is an object.
func TestManifestsParse(t *testing.T) {
	blocks, err := Manifests()
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) < 20 {
		t.Errorf("only %d blocks found", len(blocks))
	}
	for _, b := range blocks {
		objects, err := b.Objects()
		if err != nil {
			t.Error(err)
			continue
		}
		for _, o := range objects {
			if !b.Fragment && (o["apiVersion"] == nil || o["kind"] == nil) {
				t.Errorf("%s: no object, and not marked %s", b, fragment)
			}
		}
	}
}

// Values that pages give to the chart are values that it has.
func TestChartValues(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(Root(), "charts", "kruise", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var known map[string]any
	if err := yaml.Unmarshal(text, &known); err != nil {
		t.Fatal(err)
	}
	for name, page := range pages(t) {
		for _, line := range page.Prose {
			for _, m := range value.FindAllStringSubmatch(line, -1) {
				keys := strings.Split(m[1], ".")
				if _, ok := known[keys[0]]; ok {
					checkValues(t, name+": "+m[1], nest(keys), known)
				}
			}
		}
	}
	blocks, err := Manifests()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, b := range blocks {
		if !b.Values {
			continue
		}
		objects, err := b.Objects()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			count++
			checkValues(t, b.String(), o, known)
		}
	}
	if count == 0 {
		t.Error("no block has values")
	}
}

// nest returns the value that keys lead to.
func nest(keys []string) map[string]any {
	if len(keys) == 1 {
		return map[string]any{keys[0]: nil}
	}
	return map[string]any{keys[0]: nest(keys[1:])}
}

// checkValues reports keys that are not known. A value whose default is an empty object takes any.
func checkValues(t *testing.T, where string, given, known map[string]any) {
	t.Helper()
	for key, value := range given {
		def, ok := known[key]
		if !ok {
			t.Errorf("%s: the chart has no value %s", where, key)
			continue
		}
		below, ok1 := value.(map[string]any)
		defBelow, ok2 := def.(map[string]any)
		if ok1 && ok2 && len(defBelow) > 0 {
			checkValues(t, where+": "+key, below, defBelow)
		}
	}
}

// The README leads to every page.
func TestEveryPageIsLinked(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range pages(t) {
		if name != "README.md" && !strings.Contains(string(readme), "]("+name) {
			t.Errorf("README.md does not lead to %s", name)
		}
	}
}
