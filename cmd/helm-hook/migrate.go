// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// migrateGroups are the API groups whose objects are migrated.
var migrateGroups = []string{"apps.kruise.io", "policy.kruise.io"}

// definition is what migration looks at in a CustomResourceDefinition.
type definition struct {
	Metadata struct {
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Spec struct {
		Group string `json:"group"`
		Names struct {
			Plural string `json:"plural"`
		} `json:"names"`
		Versions []struct {
			Name    string `json:"name"`
			Storage bool   `json:"storage"`
		} `json:"versions"`
	} `json:"spec"`
	Status struct {
		StoredVersions []string `json:"storedVersions"`
	} `json:"status"`
}

// storage is the version that objects are stored in now.
func (d definition) storage() string {
	for _, v := range d.Spec.Versions {
		if v.Storage {
			return v.Name
		}
	}
	return ""
}

// migrate stores every object of Kruise that may still be stored in another version in its kind's storage version, and
// says so in the CustomResourceDefinition (platform W8). It can be interrupted and repeated: what is done already is not
// written again. A kind of which objects resist keeps its stored versions; which, is in the error. It waits for settle
// first, so that all apiservers know the storage version.
func migrate(ctx context.Context, at *apiserver, out io.Writer, settle time.Duration) error {
	var list struct {
		Items []definition `json:"items"`
	}
	if err := at.do(ctx, http.MethodGet, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", nil, &list); err != nil {
		return err
	}
	due := slices.DeleteFunc(list.Items, func(d definition) bool {
		return !slices.Contains(migrateGroups, d.Spec.Group) || slices.Equal(d.Status.StoredVersions, []string{d.storage()})
	})
	if len(due) == 0 {
		_, err := fmt.Fprintln(out, "everything is stored in its storage version")
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settle):
	}
	var errs []error
	for _, d := range due {
		n, err := d.migrate(ctx, at)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Metadata.Name, err))
			continue
		}
		if _, err := fmt.Fprintf(out, "%s: %d objects are stored as %s\n", d.Metadata.Name, n, d.storage()); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// migrate has every object of a kind written once, without a change, and then drops the other stored versions.
func (d definition) migrate(ctx context.Context, at *apiserver) (written int, err error) {
	base := "/apis/" + d.Spec.Group + "/" + d.storage()
	var resisting []error
	for token := ""; ; {
		items, next, err := at.page(ctx, base+"/"+d.Spec.Names.Plural, token)
		if token != "" && answered(err, http.StatusGone) {
			token = "" // the list is too old to go on with; what was written is not written again
			continue
		}
		if err != nil {
			return written, err
		}
		for _, item := range items {
			object := base
			if item.Metadata.Namespace != "" {
				object += "/namespaces/" + item.Metadata.Namespace
			}
			// An empty patch changes nothing but the version that the object is stored in, and cannot conflict.
			err := at.do(ctx, http.MethodPatch, object+"/"+d.Spec.Names.Plural+"/"+item.Metadata.Name, struct{}{}, &struct{}{})
			switch {
			case err == nil:
				written++
			case !answered(err, http.StatusNotFound): // it is gone
				resisting = append(resisting, err)
			}
		}
		if token = next; token == "" {
			break
		}
	}
	if len(resisting) > 0 {
		return written, fmt.Errorf("%d objects can't be written, the first: %w", len(resisting), resisting[0])
	}
	return written, at.do(ctx, http.MethodPatch, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+d.Metadata.Name+"/status", map[string]any{
		"metadata": map[string]any{"resourceVersion": d.Metadata.ResourceVersion}, // else the storage version may be another by now
		"status":   map[string]any{"storedVersions": []string{d.storage()}},
	}, &struct{}{})
}

// answered tells whether err is the apiserver's answer with a code.
func answered(err error, code int) bool {
	var status *statusError
	return errors.As(err, &status) && status.Code == code
}

// untilDone calls migrate until it succeeds, for at most limit. Objects that could not be migrated don't fail an upgrade
// unless strict is set: they work, and the next upgrade tries again.
func untilDone(ctx context.Context, at *apiserver, out io.Writer, settle, limit time.Duration, strict bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := migrate(ctx, at, out, settle)
		if err == nil {
			return nil
		}
		if _, err := fmt.Fprintln(out, "not yet:", strings.ReplaceAll(err.Error(), "\n", "; ")); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if strict {
				return err
			}
			_, err = fmt.Fprintln(out, "given up; nothing is lost, run this again")
			return err
		case <-time.After(max(settle, time.Second)):
		}
	}
}
