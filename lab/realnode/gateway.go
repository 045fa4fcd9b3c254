// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostNetFD is the descriptor of the machine's network namespace that the gateway is started with.
const hostNetFD = 3

const bridge = "nodes"

// gateway joins the nodes' network to the machine's loopback, for a handful of purposes and no others.
type gateway struct {
	config GatewayConfig
	host   hostNet
	inside []netip.Prefix // addresses that are dialled in the nodes' network
}

// RunGateway runs the gateway in the network namespace that it was started in, until it is killed. It returns the exit code.
func RunGateway(configPath string) int {
	g := &gateway{host: hostNet{os.NewFile(hostNetFD, "host network")}}
	for _, cidr := range []string{NodeNetwork, PodNetwork} {
		g.inside = append(g.inside, netip.MustParsePrefix(cidr))
	}
	err := Load(configPath, &g.config)
	if err == nil {
		err = g.run()
	}
	log.Print(err)
	return 1
}

func (g *gateway) run() error {
	if err := makeBridge(); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	ended := make(chan error)
	api, err := net.Listen("tcp4", net.JoinHostPort(GatewayIP, strconv.Itoa(APIPort)))
	if err != nil {
		return err
	}
	go func() { ended <- g.forward(api, g.config.APIServer) }()

	images, err := net.Listen("tcp4", net.JoinHostPort(GatewayIP, strconv.Itoa(RegistryPort)))
	if err != nil {
		return err
	}
	go func() { ended <- g.serveRegistry(images) }()

	egress, err := listenUnix(g.config.Egress)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(g.egress), ReadHeaderTimeout: 10 * time.Second}
	go func() { ended <- server.Serve(egress) }()

	nodes, err := listenUnix(g.config.Socket)
	if err != nil {
		return err
	}
	go func() { ended <- g.attachNodes(nodes) }()
	return <-ended
}

func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

func makeBridge() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	address, err := netlink.ParseAddr(GatewayIP + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(br, address); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return err
	}
	return addPodRoutes(br, 0)
}

// addPodRoutes leads the pod network of each node but self to that node.
func addPodRoutes(link netlink.Link, self int) error {
	for i := 1; i <= MaxNodes; i++ {
		if i == self {
			continue
		}
		_, pods, err := net.ParseCIDR(PodCIDR(i))
		if err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: pods, Gw: net.ParseIP(NodeIP(i))}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s: %w", pods, err)
		}
	}
	return nil
}

// attachNodes plugs every node that calls into the bridge. The connection stays open as long as both live, so that a
// node notices when the lab is gone.
func (g *gateway) attachNodes(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }()
			if err := attach(conn); err != nil {
				log.Printf("attach a node: %v", err)
				fmt.Fprintf(conn, "error %v\n", err)
				return
			}
			fmt.Fprintln(conn, "ok")
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

func attach(conn net.Conn) error {
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	index, err := strconv.Atoi(line[:len(line)-1])
	if err != nil || index < 1 || index > MaxNodes {
		return fmt.Errorf("no node index: %q", line)
	}
	pid, err := peer(conn)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = NodeName(index)
	if old, err := netlink.LinkByName(attrs.Name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return err
		}
	}
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	attrs.MasterIndex = br.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return netlink.LinkSetUp(veth)
}

// peer is the process at the other end of a unix socket, as this process sees it.
func peer(conn net.Conn) (int, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

// forward passes connections to an address in the machine's network.
func (g *gateway) forward(l net.Listener, address string) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }()
			up, err := g.host.dial(context.Background(), "tcp4", address)
			if err != nil {
				log.Printf("%s: %v", address, err)
				return
			}
			defer func() { _ = up.Close() }()
			join(conn, up)
		}()
	}
}

// join copies both ways until both ends have said all they had to say.
func join(a, b net.Conn) {
	oneWay := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if c, ok := to.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	}
	done := make(chan struct{})
	go func() { oneWay(a, b); close(done) }()
	oneWay(b, a)
	<-done
}

// serveRegistry passes pulls on and says in X-Forwarded-For which node they come from.
func (g *gateway) serveRegistry(l net.Listener) error {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: g.config.Registry})
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport:     &http.Transport{DialContext: g.host.dial, DisableCompression: true},
		FlushInterval: -1,
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(l)
}

// egress is the proxy that the apiserver calls kubelets, pods and webhooks through. Addresses of nodes and pods are in
// this namespace; anything else is where the apiserver itself is.
func (g *gateway) egress(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	up, err := g.dial(r.Context(), r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = up.Close() }()
	w.WriteHeader(http.StatusOK)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if err := buffered.Flush(); err != nil {
		return
	}
	join(&bufferedConn{conn, buffered.Reader}, up)
}

func (g *gateway) dial(ctx context.Context, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		for _, p := range g.inside {
			if p.Contains(ip) {
				d := net.Dialer{Timeout: 10 * time.Second}
				return d.DialContext(ctx, "tcp4", address)
			}
		}
	}
	return g.host.dial(ctx, "tcp", address)
}

// bufferedConn is a connection some of whose input was read already.
type bufferedConn struct {
	net.Conn
	r io.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// CloseWrite ends the output, where the connection can.
func (c *bufferedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
