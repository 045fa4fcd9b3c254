// SPDX-License-Identifier: Apache-2.0

// Command lab-app is what runs in the containers of tests on real nodes: a small web server that ends at once on SIGTERM,
// and the first process of every pod's sandbox.
//
//	lab-app [serve] answers on $PORT (default 8080), see handler
//	lab-app pause   waits for its end and takes the exit codes of orphans
//	lab-app get URL prints what URL answers
//
// Environment of serve: START_DELAY waits before it listens, TERM_DELAY waits after SIGTERM (Go durations).
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	command := "serve"
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch {
	case command == "serve":
		err = serve()
	case command == "pause":
		pause()
	case command == "get" && len(os.Args) == 3:
		err = get(os.Args[2])
	default:
		err = fmt.Errorf("usage: lab-app serve | pause | get URL")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab-app:", err)
		os.Exit(1)
	}
}

// pause waits for SIGTERM or SIGINT. As the first process of a shared pid namespace it reaps what others leave.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
}

func duration(name string) time.Duration {
	d, _ := time.ParseDuration(os.Getenv(name))
	return d
}

func serve() error {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		s := <-terminate
		fmt.Printf("%s, ending\n", s)
		time.Sleep(duration("TERM_DELAY"))
		os.Exit(0)
	}()
	time.Sleep(duration("START_DELAY"))
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	fmt.Printf("version %s listens on port %s\n", version(), port)
	server := &http.Server{Addr: ":" + port, Handler: newHandler(), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// version is the tag that the image was made for.
func version() string {
	data, err := os.ReadFile("/etc/lab-version")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// handler answers
//
//	GET  /               JSON: version, hostname, started
//	GET  /env            JSON: the environment
//	GET  /healthz /ready 200 "ok" or, after POST with ?ok=false, 500
//	POST /exit?code=3    ends with that exit code
type handler struct {
	mu      sync.Mutex
	failing map[string]bool
	started time.Time
}

func newHandler() http.Handler {
	h := &handler{failing: map[string]bool{}, started: time.Now()}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", h.health)
	mux.HandleFunc("/ready", h.health)
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		env := map[string]string{}
		for _, e := range os.Environ() {
			k, v, _ := strings.Cut(e, "=")
			env[k] = v
		}
		answer(w, env)
	})
	mux.HandleFunc("POST /exit", func(_ http.ResponseWriter, r *http.Request) {
		code := 0
		_, _ = fmt.Sscan(r.FormValue("code"), &code)
		os.Exit(code)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		hostname, _ := os.Hostname()
		answer(w, map[string]string{"version": version(), "hostname": hostname, "started": h.started.UTC().Format(time.RFC3339Nano)})
	})
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Method == http.MethodPost {
		h.failing[r.URL.Path] = r.FormValue("ok") == "false"
	} else if h.failing[r.URL.Path] {
		http.Error(w, "told to fail", http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "ok")
}

func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}
