// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto/x509"
	"slices"
	"time"
)

// Policy holds the times that govern rotation.
type Policy struct {
	// Names that a serving certificate must have: DNS names or IP addresses, the first of them the common name.
	Names []string
	// MoreNames are in certificates that are made, but a certificate without them is as good: others that write the same
	// Secret don't know them.
	MoreNames   []string
	CALife      time.Duration
	LeafLife    time.Duration
	RenewBefore time.Duration
	// Settle is how long a CA bundle has to have been in every configuration before a certificate that needs it is
	// served: apiservers see configurations through watches of their own.
	Settle time.Duration
	// Overlap is how long the CA of a replaced certificate stays trusted: other replicas switch in their own time.
	Overlap time.Duration
}

// observation is what a rotation step is decided from.
type observation struct {
	Now    time.Time
	Stored Material
	// Served is what this process serves now; zero before the first certificate.
	Served Material
	// ServedFor is how long it has been serving it.
	ServedFor time.Duration
	// Published is how long every configuration has carried the stored bundle; negative if one does not.
	Published time.Duration
}

// plan returns what the store should hold, and why when that differs from what it holds. A rotation takes three steps,
// so that at any moment every replica's certificate is trusted by every apiserver (platform W5):
//
//  1. a new CA joins the bundle, the old certificate stays,
//  2. once the bundle is everywhere, a certificate signed by the new CA replaces the old one,
//  3. once all replicas have had time to switch, the old CA leaves the bundle.
//
// Whatever the store holds, trust in what is being served is never taken away: a Secret that was deleted or overwritten
// is completed with the CA of the serving certificate.
func plan(o observation, p Policy) (Material, []string, error) {
	m := o.Stored
	var why []string
	m.CAs = slices.DeleteFunc(slices.Clone(m.CAs), func(c *x509.Certificate) bool { return o.Now.After(c.NotAfter) })
	if len(m.CAs) != len(o.Stored.CAs) {
		why = append(why, "dropped an expired CA")
	}

	serving := o.Served.Leaf != nil && acceptable(o.Served, p, o.Now) == nil
	if serving && o.Served.verify(m.CAs, "", o.Now) != nil {
		// All of them, not only the one in use here: in the middle of a rotation other replicas use another.
		for _, ca := range o.Served.CAs {
			if o.Now.Before(ca.NotAfter) && m.addCA(ca, false) {
				why = append(why, "kept a CA that is in use")
			}
		}
	}
	leafOK := acceptable(m, p, o.Now) == nil
	if !leafOK && serving {
		m.Leaf, m.Chain, m.LeafKey = o.Served.Leaf, o.Served.Chain, o.Served.LeafKey
		why = append(why, "kept the certificate in use")
		leafOK = true
	}

	bundleChanged := len(why) > 0
	leafDue := leafOK && due(m.Leaf, p.RenewBefore, o.Now)
	ca := m.signing()
	if ca == nil || o.Now.Before(ca.NotBefore) || due(ca, p.RenewBefore, o.Now) || (!leafOK || leafDue) && ca.NotAfter.Sub(o.Now) < p.LeafLife-clockSkew {
		newCert, key, err := newCA(o.Now, p.CALife)
		if err != nil {
			return m, nil, err
		}
		m.addCA(newCert, true)
		m.CAKey, ca, bundleChanged = key, newCert, true
		why = append(why, "made a new CA")
	}

	wantLeaf := leafDue || !leafOK || m.verify([]*x509.Certificate{ca}, "", o.Now) != nil
	if wantLeaf && (!leafOK || !bundleChanged && o.Published >= p.Settle) {
		leaf, key, err := newLeaf(o.Now, p.LeafLife, slices.Concat(p.Names, p.MoreNames), ca, m.CAKey)
		if err != nil {
			return m, nil, err
		}
		m.Leaf, m.Chain, m.LeafKey = leaf, nil, key
		return m, append(why, "made a new serving certificate"), nil
	}

	if !wantLeaf && m.sameLeaf(o.Served) && o.ServedFor >= p.Overlap && o.Published >= 0 && len(m.CAs) > 1 {
		m.CAs = []*x509.Certificate{ca}
		why = append(why, "dropped the old CA")
	}
	return m, why, nil
}

// acceptable reports why the leaf can't be served: absent, for other names, key of another certificate, not trusted.
func acceptable(m Material, p Policy, now time.Time) error {
	if !matches(m.Leaf, m.LeafKey) {
		return errKeyPair
	}
	for _, name := range p.Names {
		if err := m.verify(m.CAs, name, now); err != nil {
			return err
		}
	}
	return nil
}
