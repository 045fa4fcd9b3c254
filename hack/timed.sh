#!/usr/bin/env bash
# Runs a command and says how long it took, so that a CI log shows where the time goes: timed.sh NAME COMMAND...
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
name=$1; shift
echo "=== $name"
start=$SECONDS
"$@"
status=$?
echo "=== $name: $((SECONDS - start)) s, exit $status"
exit $status
