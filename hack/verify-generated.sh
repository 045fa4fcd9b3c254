#!/usr/bin/env bash
# Fails when generated files are stale: regenerates in a copy of the tree and compares.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cd "$root"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
  [ -e "$f" ] && printf '%s\0' "$f"
done | tar --null -T - -cf - | tar -xf - -C "$copy"
cp -r "$copy" "$copy.before"
trap 'rm -rf "$copy" "$copy.before"' EXIT
(cd "$copy" && hack/generate.sh)
if ! diff -r -q "$copy.before" "$copy"; then
  echo "generated files are stale: run 'make generate' and commit the result" >&2
  exit 1
fi
