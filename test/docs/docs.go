// SPDX-License-Identifier: Apache-2.0

// Package docs reads the documentation for tests: its links, and the manifests that users paste.
//
// A block of YAML is a manifest that works as pasted, next to the objects that the test of it makes
// (test/integration/docs), unless the line before it is the comment
//
//	<!-- fragment -->
//
// which readers don't see. Fragments, such as configuration files, have to parse, no more; those marked
//
//	<!-- fragment: values -->
//
// are values of the chart and may name only values that it has.
package docs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	fragment = "<!-- fragment -->"
	values   = "<!-- fragment: values -->"
)

// Root is the directory of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Pages returns the pages of the documentation, as paths from the root.
func Pages() ([]string, error) {
	pages, err := filepath.Glob(filepath.Join(Root(), "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	for i := range pages {
		pages[i] = filepath.Join("docs", filepath.Base(pages[i]))
	}
	return append([]string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}, pages...), nil
}

// Block is a block of code.
type Block struct {
	Page     string // path from the root
	Line     int    // of its first line of text
	Language string // such as yaml; may be empty
	Fragment bool   // no manifest of its own
	Values   bool   // values of the chart
	Text     string
}

// String tells where the block is.
func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Page is a page without its blocks of code, which keep their lines as empty ones, and these blocks.
type Page struct {
	Prose  []string
	Blocks []Block
}

// Read reads a page, given by its path from the root.
func Read(page string) (*Page, error) {
	text, err := os.ReadFile(filepath.Join(Root(), page))
	if err != nil {
		return nil, err
	}
	p := &Page{}
	var open *Block
	before := ""
	for i, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimSpace(line)
		language, fence := strings.CutPrefix(trimmed, "```")
		switch {
		case fence && open == nil:
			open = &Block{Page: page, Line: i + 2, Language: language, Fragment: before == fragment || before == values, Values: before == values}
			line = ""
		case fence:
			p.Blocks = append(p.Blocks, *open)
			open, line = nil, ""
		case open != nil:
			open.Text += line + "\n"
			line = ""
		}
		p.Prose = append(p.Prose, line)
		before = trimmed
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the block does not end", open)
	}
	return p, nil
}

// Objects returns the documents of a block of YAML. Keys that occur twice are errors. Of fragments, which may be anything,
// those that are no objects are left out.
func (b Block) Objects() ([]map[string]any, error) {
	var objects []map[string]any
	documents := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(b.Text)))
	for {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		var document any
		if err == nil {
			err = yaml.UnmarshalStrict(text, &document)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b, err)
		}
		switch object, ok := document.(map[string]any); {
		case ok:
			objects = append(objects, object)
		case !b.Fragment:
			return nil, fmt.Errorf("%s: is no object", b)
		}
	}
}

// Manifests returns the blocks of YAML of all pages.
func Manifests() ([]Block, error) {
	pages, err := Pages()
	if err != nil {
		return nil, err
	}
	var blocks []Block
	for _, page := range pages {
		p, err := Read(page)
		if err != nil {
			return nil, err
		}
		for _, b := range p.Blocks {
			if b.Language == "yaml" {
				blocks = append(blocks, b)
			}
		}
	}
	return blocks, nil
}
