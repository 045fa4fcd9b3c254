#!/usr/bin/env bash
# Installs what real nodes need and Go modules can't provide: a container runtime, CNI plugins and a static busybox.
# Does nothing when all of it is there. Debian and its relatives only.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "install-node-deps: real nodes need root" >&2; exit 1; }
missing=()
for pair in containerd:containerd runc:runc iptables:iptables busybox:busybox-static nsenter:util-linux; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ -x /usr/lib/cni/ptp ] || missing+=(containernetworking-plugins)
# The images are built from scratch: a busybox that needs libraries would not start in them.
if command -v busybox >/dev/null && command -v ldd >/dev/null && ldd "$(command -v busybox)" >/dev/null 2>&1; then
  missing+=(busybox-static)
fi
[ ${#missing[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || { echo "install-node-deps: install yourself: ${missing[*]}" >&2; exit 1; }
echo "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# Nodes start their own containerd; the package must not start one for the machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' > $policy
  chmod +x $policy
  trap 'rm -f "$log" '$policy EXIT
fi
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
