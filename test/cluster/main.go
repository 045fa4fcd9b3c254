// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"kruise.io/kruise/test/lab"
)

// startLimit bounds the start of a cluster and its manager.
const startLimit = 8 * time.Minute

// Main runs the tests of a package on a cluster with one manager, which gets args, and returns the exit code. use gets the
// cluster before.
func Main(m *testing.M, o lab.Options, use func(*Cluster), args ...string) int {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	c, err := Start(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	use(c)
	code := 1
	if _, err = c.StartManager(ctx, args...); err == nil {
		code = lab.Quietly(m.Run)
	}
	if err = errors.Join(err, c.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
