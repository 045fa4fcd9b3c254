// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// Bug makes a correct controller behave like a wrong one, by changing what it asks for or what it sees. Tests plant bugs
// to prove that the harness reports them; nothing else knows about them.
type Bug struct {
	Name string
	// Request may change the body of a write. If it returns true, the write is not carried out and the controller is told
	// that it was.
	Request func(r *Request, body map[string]any) (swallow bool)
	// View may change an object that the controller reads, in whatever way. If it returns false, the controller does not
	// see the object in lists.
	View func(r *Request, object map[string]any) (show bool)
}

// Plant adds a bug for as long as the proxy lives.
func (p *Proxy) Plant(b *Bug) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bugs = append(p.bugs, b)
}

// request applies the bug to the body of a write. A non-nil answer is what the controller is told instead.
func (b *Bug) request(r *Request, body *[]byte) *answer {
	object := map[string]any{}
	if len(*body) > 0 && json.Unmarshal(*body, &object) != nil {
		return nil // no JSON object: nothing that a bug is about
	}
	swallow := b.Request(r, object)
	if len(*body) > 0 {
		*body, _ = json.Marshal(object) // came from JSON
	}
	if swallow {
		success := []byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`)
		return &answer{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, success}
	}
	return nil
}

// view applies the bug to an answer.
func (b *Bug) view(r *Request, data []byte) []byte {
	object := map[string]any{}
	if json.Unmarshal(data, &object) != nil {
		return data
	}
	items, list := object["items"].([]any)
	if !list {
		b.View(r, object)
	} else {
		shown := make([]any, 0, len(items))
		for _, item := range items {
			if o, ok := item.(map[string]any); !ok || b.View(r, o) {
				shown = append(shown, item)
			}
		}
		object["items"] = shown
	}
	out, err := json.Marshal(object)
	if err != nil {
		return data
	}
	return out
}

// event applies the bug to an event of a watch; nothing is left of one that is not shown.
func (b *Bug) event(r *Request, line []byte) []byte {
	if len(bytes.TrimSpace(line)) == 0 {
		return line
	}
	event := map[string]any{}
	if json.Unmarshal(line, &event) != nil {
		return line
	}
	object, ok := event["object"].(map[string]any)
	if !ok || event["type"] == "BOOKMARK" || event["type"] == "ERROR" {
		return line
	}
	if !b.View(r, object) {
		return nil
	}
	out, err := json.Marshal(event)
	if err != nil {
		return line
	}
	return append(out, '\n')
}

// field walks into an object; the last step is not taken. It returns nil if there is no such place.
func field(object map[string]any, path ...string) map[string]any {
	for _, step := range path {
		next, ok := object[step].(map[string]any)
		if !ok {
			return nil
		}
		object = next
	}
	return object
}
