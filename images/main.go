// SPDX-License-Identifier: Apache-2.0

// Command images builds the container images of Kruise from scratch: static programs, CA certificates and time zones,
// without a base image, a container engine or a shell. The same commit and the same Go give the same digests.
//
// For each image it writes an OCI archive and, beside it, an SBOM and a provenance statement for each platform; the archive
// carries both as attestations.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "images: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "licences" {
		return checkLicences(ctx, args[1:])
	}
	return build(ctx, args)
}

func build(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("images", flag.ContinueOnError)
	root := fs.String("root", "..", "The repository's directory.")
	out := fs.String("out", "../bin/images", "Directory of the archives.")
	platforms := fs.String("platforms", "linux/amd64,linux/arm64", "Platforms of each image.")
	tag := fs.String("tag", "", "Tag that the archives name; empty means the version.")
	release := fs.String("version", "", "Version that the programs tell; empty means the one git describes.")
	builder := fs.String("builder-id", "https://kruise.io/kruise/builders/local", "URI in the provenance that names who builds.")
	if err := fs.Parse(args); err != nil {
		return err
	}
	source, err := describe(ctx, *root, *release)
	if err != nil {
		return err
	}
	if *tag == "" {
		*tag = source.Version
	}
	w := workshop{root: *root, source: source, builderID: *builder}
	for p := range strings.SplitSeq(*platforms, ",") {
		platform, err := v1.ParsePlatform(strings.TrimSpace(p))
		if err != nil || platform.OS != "linux" {
			return fmt.Errorf("platform %q: only linux/ARCHITECTURE is known", p)
		}
		w.platforms = append(w.platforms, *platform)
	}
	if err := os.MkdirAll(*out, 0o750); err != nil {
		return err
	}
	built, err := w.programs(ctx, filepath.Join(*out, "programs"))
	if err != nil {
		return err
	}
	entries, err := base(ctx)
	if err != nil {
		return err
	}
	baseLayer, err := layer(entries)
	if err != nil {
		return err
	}
	licences, err := w.licences(ctx)
	if err != nil {
		return err
	}
	for _, r := range available(*root) {
		began := time.Now()
		result, err := w.image(r, baseLayer, built, licences)
		if err != nil {
			return fmt.Errorf("image %s: %w", r.name, err)
		}
		if err := result.write(*out, *tag); err != nil {
			return fmt.Errorf("image %s: %w", r.name, err)
		}
		fmt.Printf("%s (%.1fs)\n", result, time.Since(began).Seconds())
	}
	return nil
}
