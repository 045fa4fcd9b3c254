// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports for processes that open them later are drawn from below the kernel's usual range for outgoing connections
// (32768 and up), so that no such connection takes one in the meantime, and beside the range of the lab.
const (
	firstPort = 10000
	lastPort  = 19999
)

// FreeAddr returns host:port of the loopback interface where nobody listens.
func FreeAddr() (string, error) {
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1)))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no free port between %d and %d", firstPort, lastPort)
}
