// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// Ports for processes that open them later lie below the kernel's usual range for outgoing connections (32768 and up),
// so that no such connection takes one in the meantime, and beside the range of the lab. They come in blocks: who
// listens on the first port of a block owns the others, so that neither tests of one process nor those of two that run
// at the same time are ever given the same port.
const (
	firstPort  = 10000
	blockSize  = 100
	portBlocks = 100
)

var ports struct {
	sync.Mutex
	owner net.Listener // held until the process ends
	base  int
	next  int
}

// FreeAddr returns host:port of the loopback interface where nobody listens, and which nobody else is given.
func FreeAddr() (string, error) {
	ports.Lock()
	defer ports.Unlock()
	if ports.owner == nil {
		if err := ownPorts(); err != nil {
			return "", err
		}
	}
	for range blockSize - 1 {
		ports.next = ports.next%(blockSize-1) + 1
		addr := loopback(ports.base + ports.next)
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no free port between %d and %d", ports.base+1, ports.base+blockSize-1)
}

func ownPorts() error {
	var last error
	for i := range portBlocks {
		base := firstPort + i*blockSize
		l, err := net.Listen("tcp", loopback(base))
		if err == nil {
			ports.owner, ports.base = l, base
			return nil
		}
		last = err
	}
	return errors.Join(errors.New("every block of ports is taken"), last)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
