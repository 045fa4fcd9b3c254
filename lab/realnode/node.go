// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// RunInit is the first process of a node, in new mount, pid, network, IPC and UTS namespaces. It makes the node's root
// file system and network, keeps containerd, kubelet and kube-proxy running, and ends when it is told to, when the
// gateway is gone or when it is killed; in each case the kernel ends everything else on the node. It returns the exit code.
func RunInit(configPath string) int {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	var c NodeConfig
	err := Load(configPath, &c)
	if err == nil {
		err = c.run()
	}
	log.Print(err)
	return 1
}

func (c *NodeConfig) run() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("%s must be the first process of a pid namespace", Init)
	}
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	// The machine's file system goes out of reach below, so what is needed from it is opened first.
	gateway, err := net.Dial("unix", c.Socket)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	if err := c.makeRoot(); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	if err := c.joinNetwork(gateway); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, gateway)
		log.Print("the gateway is gone, and so is this node")
		os.Exit(1)
	}()
	return supervise(c.services())
}

// joinNetwork asks the gateway for a place at the bridge and configures the node's end of it.
func (c *NodeConfig) joinNetwork(gateway net.Conn) error {
	if err := gateway.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	fmt.Fprintf(gateway, "%d\n", c.Index)
	answer, err := bufio.NewReader(gateway).ReadString('\n')
	if err != nil {
		return err
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return fmt.Errorf("the gateway says: %s", answer)
	}
	if err := gateway.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return configureNetwork(c.Index)
}
