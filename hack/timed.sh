#!/usr/bin/env bash
# Runs a command and says how long it took, so that a CI log shows where the time goes: timed.sh NAME COMMAND...
# If it fails, what go test said of failed tests is repeated last, because the logs of their processes are long.
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
name=$1; shift
out=$(mktemp)
trap 'rm -f "$out"' EXIT
echo "=== $name"
start=$SECONDS
"$@" 2>&1 | tee "$out"
status=${PIPESTATUS[0]}
if [ "$status" -ne 0 ]; then
	echo "=== $name: what failed"
	grep -aE '^ *--- FAIL|^ +[a-zA-Z0-9_]+_test\.go:[0-9]+: |^(FAIL|panic:)' "$out" | cut -c1-500 | tail -n 60
fi
echo "=== $name: $((SECONDS - start)) s, exit $status"
exit "$status"
