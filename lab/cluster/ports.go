// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are drawn from below the kernel's usual range for outgoing connections (32768 and up), so that no such
// connection takes one between our choice and the component's listen.
const (
	firstPort = 20000
	lastPort  = 32000
)

const loopback = "127.0.0.1"

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// portFree reports whether a port can be listened on now.
func portFree(port int) bool {
	l, err := net.Listen("tcp4", address(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// choosePorts keeps the ports of an earlier start where they are free, so that kubeconfigs stay valid, and draws new
// ones for the others.
func choosePorts(earlier Ports) (Ports, error) {
	p := earlier
	taken := map[int]bool{}
	for _, port := range []*int{&p.Etcd, &p.EtcdPeer, &p.APIServer, &p.ControllerManager, &p.Scheduler, &p.Kwok, &p.Registry, &p.RegistryPull} {
		if *port == 0 || taken[*port] || !portFree(*port) {
			free, err := drawPort(taken)
			if err != nil {
				return Ports{}, err
			}
			*port = free
		}
		taken[*port] = true
	}
	return p, nil
}

func drawPort(taken map[int]bool) (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if !taken[port] && portFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port on %s between %d and %d", loopback, firstPort, lastPort)
}
