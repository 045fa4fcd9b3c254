// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// source is what the images are built from.
type source struct {
	Version  string    // v1.9.0, or dev where no tag says more
	Revision string    // commit; empty outside a git repository
	Modified bool      // the work tree differs from the commit
	Time     time.Time // of the commit, or $SOURCE_DATE_EPOCH
}

// describe asks git about the sources in root. Outside a repository, the version is "dev" and the time 1970 unless told
// otherwise: builds never know the time of day.
func describe(ctx context.Context, root, version string) (source, error) {
	s := source{Version: version, Time: time.Unix(0, 0).UTC()}
	if revision, err := git(ctx, root, "rev-parse", "HEAD"); err == nil {
		s.Revision = revision
		seconds, err := git(ctx, root, "log", "-1", "--format=%ct")
		if err != nil {
			return s, err
		}
		if s.Time, err = parseEpoch(seconds); err != nil {
			return s, err
		}
		changes, err := git(ctx, root, "status", "--porcelain")
		if err != nil {
			return s, err
		}
		s.Modified = changes != ""
		if s.Version == "" {
			s.Version, _ = git(ctx, root, "describe", "--tags", "--match", "v*") // no tag, no version
		}
	}
	if s.Version == "" {
		s.Version = "dev"
	}
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		t, err := parseEpoch(epoch)
		if err != nil {
			return s, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		s.Time = t
	}
	return s, nil
}

func parseEpoch(seconds string) (time.Time, error) {
	n, err := strconv.ParseInt(seconds, 10, 64)
	return time.Unix(n, 0).UTC(), err
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("git %s: %s", strings.Join(args, " "), strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}
