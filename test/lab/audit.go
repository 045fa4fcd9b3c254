// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"
)

// AuditEntry is one request as the apiserver's audit log has it.
type AuditEntry struct {
	Time        time.Time // when the apiserver received the request
	Duration    time.Duration
	UserAgent   string
	User        string
	Node        string // of the pod whose token was used, "" if it is none's
	Verb        string // create, update, patch, delete, deletecollection, get, list, watch
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	URI         string // path and query
	Code        int    // HTTP status of the answer
	End         int64  // offset in the log right behind this entry
}

// Agent is the user agent's program name, without version and platform.
func (e AuditEntry) Agent() string {
	name, _, _ := strings.Cut(e.UserAgent, "/")
	return name
}

// IsWrite reports whether the request wanted to change something.
func (e AuditEntry) IsWrite() bool {
	switch e.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// AuditEnd returns where the audit log at path ends now. Entries of later requests are behind it.
func AuditEnd(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// AuditEntries yields the entries of the audit log at path from an offset on (0 or an earlier entry's End). An entry that is
// being written is left for the next time. Iteration ends with the first error.
func AuditEntries(path string, from int64) iter.Seq2[AuditEntry, error] {
	return func(yield func(AuditEntry, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(AuditEntry{}, err)
			return
		}
		defer func() { _ = f.Close() }()
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			yield(AuditEntry{}, err)
			return
		}
		lines := bufio.NewReaderSize(f, 1<<16)
		for end := from; ; {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(AuditEntry{}, err)
				return
			}
			end += int64(len(line))
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			e, err := parseAudit(line)
			if err != nil {
				yield(e, fmt.Errorf("%s before offset %d: %w", path, end, err))
				return
			}
			e.End = end
			if !yield(e, nil) {
				return
			}
		}
	}
}

func parseAudit(line []byte) (AuditEntry, error) {
	var event struct {
		RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
		StageTimestamp           time.Time `json:"stageTimestamp"`
		UserAgent                string    `json:"userAgent"`
		RequestURI               string    `json:"requestURI"`
		Verb                     string    `json:"verb"`
		User                     struct {
			Username string              `json:"username"`
			Extra    map[string][]string `json:"extra"`
		} `json:"user"`
		ObjectRef struct {
			APIGroup, Resource, Subresource, Namespace, Name string
		} `json:"objectRef"`
		ResponseStatus struct {
			Code int `json:"code"`
		} `json:"responseStatus"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return AuditEntry{}, err
	}
	node := ""
	if extra := event.User.Extra["authentication.kubernetes.io/node-name"]; len(extra) > 0 {
		node = extra[0]
	}
	return AuditEntry{
		Node: node,
		Time: event.RequestReceivedTimestamp, Duration: event.StageTimestamp.Sub(event.RequestReceivedTimestamp),
		UserAgent: event.UserAgent, User: event.User.Username, Verb: event.Verb,
		Group: event.ObjectRef.APIGroup, Resource: event.ObjectRef.Resource, Subresource: event.ObjectRef.Subresource,
		Namespace: event.ObjectRef.Namespace, Name: event.ObjectRef.Name, URI: event.RequestURI, Code: event.ResponseStatus.Code,
	}, nil
}

// Write names a kind of write request.
type Write struct {
	Agent       string // AuditEntry.Agent
	User        string // tells the controllers of one program apart
	Verb        string
	Resource    string
	Subresource string
	Code        int
}

// String renders a write as "agent verb resource/subresource code".
func (w Write) String() string {
	resource := w.Resource
	if w.Subresource != "" {
		resource += "/" + w.Subresource
	}
	return fmt.Sprintf("%s %s %s %d", w.Agent, w.Verb, resource, w.Code)
}

// CountWrites counts the write requests in the audit log at path from an offset on, and returns the offset to go on from.
// Only entries that keep accepts are counted; nil accepts all.
func CountWrites(path string, from int64, keep func(AuditEntry) bool) (counts map[Write]int, next int64, err error) {
	counts, next = map[Write]int{}, from
	for e, err := range AuditEntries(path, from) {
		if err != nil {
			return counts, next, err
		}
		next = e.End
		if e.IsWrite() && (keep == nil || keep(e)) {
			counts[Write{Agent: e.Agent(), User: e.User, Verb: e.Verb, Resource: e.Resource, Subresource: e.Subresource, Code: e.Code}]++
		}
	}
	return counts, next, nil
}

// InNamespace accepts the entries of a namespace that are not about events or leases, which no figure counts.
func InNamespace(namespace string) func(AuditEntry) bool {
	return func(e AuditEntry) bool {
		return e.Namespace == namespace && e.Resource != "events" && e.Resource != "leases"
	}
}
