#!/usr/bin/env bash
# Builds the lab: etcd, the Kubernetes control plane, KWOK and kubectl in one binary. The first build takes minutes,
# so it says what it does while it does it; afterwards Go's build cache answers in seconds.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
out=$(realpath -m "${1:-bin/lab}")
cd "$(dirname "$0")/../lab"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}; minor=${minor%%.*}
base=k8s.io/component-base/version
flags="-s -w -X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=$minor"
flags+=" -X k8s.io/client-go/pkg/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitCommit=lab" # user agents
mkdir -p "$(dirname "$out")"
start=$SECONDS
( sleep 5
  while :; do
    echo "building the lab (etcd, Kubernetes ${version}, KWOK from source; cached afterwards): $((SECONDS - start)) s" >&2
    sleep 30
  done ) & ticker=$!
trap 'kill $ticker 2>/dev/null || true' EXIT
CGO_ENABLED=0 go build -ldflags "$flags" -o "$out" .
# What runs in the containers of tests on real nodes; it goes into images that the lab makes when it starts.
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$(dirname "$out")/lab-app" ./app
