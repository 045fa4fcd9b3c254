// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"hash/fnv"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

const (
	// idAlphabet are the characters of instance ids (cloneset 4.1).
	idAlphabet = "bcdfghjklmnpqrstvwxz2456789"
	// idLength is the number of characters of an instance id.
	idLength = 5
)

// idSource hands out instance ids. It is seeded with the identity and the version of the CloneSet: a plan that is
// repeated because the answer to a create was lost repeats the names, since the CloneSet is written only after the pods;
// and an id is not repeated when a pod has come and gone, since that changes the status.
type idSource struct {
	seed  uint64
	next  uint64
	taken map[string]bool
}

func newIDSource(cs *appsv1beta1.CloneSet, taken map[string]bool) *idSource {
	h := fnv.New64a()
	_, _ = h.Write([]byte(cs.UID))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(cs.ResourceVersion))
	return &idSource{seed: h.Sum64(), taken: taken}
}

// take returns an id that nothing carries, and marks it as taken.
func (s *idSource) take() string {
	for {
		s.next++
		id := encodeID(mix(s.seed + s.next*0x9e3779b97f4a7c15))
		if !s.taken[id] {
			s.taken[id] = true
			return id
		}
	}
}

// mix spreads the bits of n (the finaliser of SplitMix64).
func mix(n uint64) uint64 {
	n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9
	n = (n ^ (n >> 27)) * 0x94d049bb133111eb
	return n ^ (n >> 31)
}

func encodeID(n uint64) string {
	var b [idLength]byte
	for i := range b {
		b[i] = idAlphabet[n%uint64(len(idAlphabet))]
		n /= uint64(len(idAlphabet))
	}
	return string(b[:])
}
