// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

// all runs every crash point and the slow tests; `make fault` sets it.
var all = os.Getenv("KRUISE_FAULT") == "all"

// host runs the managers of all tests beside one lab.
var host *Host

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := flag.Lookup("test.parallel")
	if n, err := strconv.Atoi(parallel.Value.String()); err == nil && n < worldsAtOnce {
		_ = parallel.Value.Set(strconv.Itoa(worldsAtOnce))
	}
	os.Exit(run(m))
}

// worldsAtOnce is how many tests run side by side: they wait most of the time.
const worldsAtOnce = 10

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	logs, err := os.MkdirTemp("", "kruise-fault-log-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		return 1
	}
	defer func() {
		if code == 0 {
			_ = os.RemoveAll(logs)
		} else {
			fmt.Fprintln(os.Stderr, "fault: the managers' log is", filepath.Join(logs, "log"))
		}
	}()
	out, err := os.Create(filepath.Join(logs, "log"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		return 1
	}
	logFlags := flag.NewFlagSet("", flag.PanicOnError)
	klog.InitFlags(logFlags)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "FATAL"} {
		_ = logFlags.Set(name, value)
	}
	klog.SetOutput(out)
	if os.Getenv("KRUISE_SOAK_MINUTES") != "" {
		code = m.Run() // it has a lab of its own
		fmt.Print(Total)
		return code
	}
	c, err := cluster.Start(ctx, lab.Options{Nodes: 3, StartDelay: 100 * time.Millisecond, RestartDelay: 200 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		return 1
	}
	if host, err = NewHost(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "fault:", errors.Join(err, c.Stop()))
		return 1
	}
	code = m.Run()
	fmt.Print(Total)
	if err := errors.Join(host.Close(), c.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
		code = max(code, 1)
	}
	return code
}
