// SPDX-License-Identifier: Apache-2.0

package containermeta

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod/inplace"
)

// The runtime's own record of the container is read before any program of the image is run, and keeps values whole.
func TestConfiguredEnv(t *testing.T) {
	for name, c := range map[string]struct {
		info, value string
		execs       int
	}{
		"OCI configuration":   {`{"runtimeSpec":{"process":{"env":["PATH=/bin","E= a=b\nc "]}}}`, " a=b\nc ", 0},
		"CRI configuration":   {`{"config":{"envs":[{"key":"E","value":"foo"}]}}`, "foo", 0},
		"both":                {`{"config":{"envs":[{"key":"E","value":"old"}]},"runtimeSpec":{"process":{"env":["E=foo"]}}}`, "foo", 0},
		"nothing of it":       {`{"pid":1}`, "foo", 1},
		"what is no JSON":     {`{`, "foo", 1},
		"no more than status": {``, "foo", 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := fedPod("a")
			p.Annotations["v"] = c.value
			n := newNode(t, true, p)
			n.cri.Info = map[string]string{"a0": c.info}
			n.cri.Run("uid", "a", "a0", 0, nil)
			p = n.look()
			got := Parse(p).Containers[0].Hashes.ExtractedEnvFromMetadataHash
			if want := inplace.EnvHash(&p.Spec.Containers[0], p); got != want || len(n.cri.Execs()) != c.execs {
				t.Errorf("hash %d, not %d; executed %v", got, want, n.cri.Execs())
			}
		})
	}
}

// Output of env is ambiguous where values have several lines: what is wanted is recognised, anything else is outdated.
func TestPrintedEnv(t *testing.T) {
	for output, want := range map[string]bool{
		"PATH=/bin\nE=a\nb \nF=x\n": true,
		"E=a\nb \n":                 true,
		"E=a\nc\n":                  false,
		"X=1\nFE=a\nb \n":           false,
		"":                          false,
	} {
		if got := printedEnv(output, map[string]string{"E": "a\nb "})["E"] == "a\nb "; got != want {
			t.Errorf("%q: %v", output, got)
		}
	}
}

// An environment that nobody can read is tried again less and less often and then reported, once; it is not forgotten
// that it may be readable after all.
func TestUnreadableEnv(t *testing.T) {
	p := fedPod("a")
	n := newNode(t, true, p)
	n.r.FirstRetry = time.Millisecond
	n.cri.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
		return &runtimeapi.ExecSyncResponse{ExitCode: 127, Stderr: []byte("secret=hunter2")}, nil
	}
	n.cri.Run("uid", "a", "a0", 0, nil)
	key := client.ObjectKeyFromObject(p)
	look := func() (pub.RuntimeContainerMeta, time.Duration) {
		t.Helper()
		result, err := n.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
		if err != nil {
			t.Fatal(err)
		}
		p := &corev1.Pod{}
		if err := n.Get(context.Background(), key, p); err != nil {
			t.Fatal(err)
		}
		return Parse(p).Containers[0], result.RequeueAfter
	}
	for len(n.cri.Execs()) < giveUpAfter {
		meta, after := look()
		if after <= 0 || after > time.Minute {
			t.Fatalf("looks again after %s", after)
		}
		if gaveUp := len(n.cri.Execs()) >= giveUpAfter; gaveUp != (meta.EnvUnreadable != "") {
			t.Errorf("after %d attempts: %+v", len(n.cri.Execs()), meta)
		}
	}
	meta, _ := look()
	if !strings.Contains(meta.EnvUnreadable, "status 127") || strings.Contains(meta.EnvUnreadable, "hunter2") {
		t.Errorf("reason %q", meta.EnvUnreadable)
	}
	if got := <-n.events.Events; got != "Warning FailedReadEnv Can't read the environment of container a: "+meta.EnvUnreadable {
		t.Errorf("event %q", got)
	}
	if d := n.r.unread[key]["a"].delay; d < 32*time.Millisecond {
		t.Errorf("waits %s", d)
	}
	n.cri.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
		return &runtimeapi.ExecSyncResponse{Stdout: []byte("E=foo\n")}, nil
	}
	for meta.EnvUnreadable != "" {
		meta, _ = look()
	}
	if meta.Hashes.ExtractedEnvFromMetadataHash != hashFoo || len(n.r.unread) != 0 || len(n.events.Events) != 0 {
		t.Errorf("record %+v, remembers %v, %d more events", meta, n.r.unread, len(n.events.Events))
	}
}

// Nobody gives up while the runtime is away.
func TestUnreachableEnv(t *testing.T) {
	n := newNode(t, true, fedPod("a"))
	n.r.FirstRetry = time.Nanosecond
	n.cri.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
		return nil, grpcstatus.Error(codes.Unavailable, "restarting")
	}
	n.cri.Run("uid", "a", "a0", 0, nil)
	for len(n.cri.Execs()) < 2*giveUpAfter {
		if meta := Parse(n.look()).Containers[0]; meta.EnvUnreadable != "" {
			t.Fatalf("gave up: %+v", meta)
		}
	}
}

func TestReasonOf(t *testing.T) {
	if got := reasonOf(errors.New(strings.Repeat("ü", 200))); len(got) > maxReason || !strings.HasSuffix(got, "ü") {
		t.Errorf("reason %q", got)
	}
}
