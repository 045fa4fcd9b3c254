// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"

	"k8s.io/klog/v2"
)

// logLines is how much of a process's log is shown beside a failed test: more hides why it failed.
const logLines = 15

// Quietly calls run, whose result is an exit code, while what this process logs goes nowhere; its end is shown if run fails.
func Quietly(run func() int) int {
	log := &Log{}
	flags := flag.NewFlagSet("", flag.PanicOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "FATAL"} {
		_ = flags.Set(name, value) // klog's own
	}
	klog.SetOutput(log)
	code := run()
	klog.Flush()
	if end := log.Tail(); code != 0 && end != "" {
		fmt.Fprintf(os.Stderr, "the end of this process's log:\n%s\n", end)
	}
	return code
}

// Log keeps the end of what is written to it. It may be written to and read at any time.
type Log struct {
	mu   sync.Mutex
	data []byte
}

// Write never fails.
func (l *Log) Write(p []byte) (int, error) {
	const limit = 64 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.data)+len(p) > limit {
		l.data = append([]byte(nil), l.data[len(l.data)/2:]...)
	}
	l.data = append(l.data, p...)
	return len(p), nil
}

// String is all that is kept, at most some 64 KiB and one write.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.data)
}

// Tail is the last 15 lines.
func (l *Log) Tail() string { return Tail(l.String()) }

// Tail is the last 15 lines of a log.
func Tail(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}
