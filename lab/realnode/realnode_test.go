// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"net/netip"
	"testing"
)

// Every node must have addresses of its own, inside the networks that the gateway serves.
func TestAddresses(t *testing.T) {
	nodes, pods := netip.MustParsePrefix(NodeNetwork), netip.MustParsePrefix(PodNetwork)
	if !nodes.Contains(netip.MustParseAddr(GatewayIP)) || nodes.Overlaps(pods) {
		t.Errorf("gateway %s, nodes %s, pods %s", GatewayIP, nodes, pods)
	}
	seen := map[string]bool{GatewayIP: true}
	for i := 1; i <= MaxNodes; i++ {
		ip, cidr := netip.MustParseAddr(NodeIP(i)), netip.MustParsePrefix(PodCIDR(i))
		if !nodes.Contains(ip) || !pods.Contains(cidr.Addr()) || seen[ip.String()] || seen[cidr.String()] {
			t.Errorf("node %d: %s, %s", i, ip, cidr)
		}
		seen[ip.String()], seen[cidr.String()] = true, true
	}
}

func TestCgroupFollowsFromDirectory(t *testing.T) {
	if a, b := Cgroup("/tmp/a"), Cgroup("/tmp/b"); a == b || a != Cgroup("/tmp/a") {
		t.Errorf("%s, %s", a, b)
	}
}
