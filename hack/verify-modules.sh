#!/usr/bin/env bash
# Fails when a module's go.mod or go.sum is not what `go mod tidy` would write.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
for module in "$@"; do
  (cd "$module" && go mod tidy -diff) || { echo "run 'go mod tidy' in $module" >&2; exit 1; }
done
