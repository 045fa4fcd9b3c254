// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
)

// configureNetwork gives the node its address, a way to the pods of other nodes, and a default route. The default route
// leads nowhere but to the gateway; it is there so that packets to Service addresses have a way out, on which kube-proxy
// finds them.
func configureNetwork(index int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(NodeIP(index) + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(eth, address); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return err
	}
	if err := addPodRoutes(eth, index); err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.ParseIP(GatewayIP)}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	for _, sysctl := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/"+sysctl, []byte("1"), 0o600); err != nil {
			return err
		}
	}
	return nil
}
