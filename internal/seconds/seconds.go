// SPDX-License-Identifier: Apache-2.0

// Package seconds reads the numbers of seconds in specs. Users write very large ones for "never".
package seconds

import "time"

// longest is about a hundred years: sums of two don't overflow.
const longest = 100 * 365 * 24 * time.Hour

// Of returns n seconds, at most a hundred years and at least as many negative ones.
func Of(n int64) time.Duration {
	const most = int64(longest / time.Second)
	return time.Duration(min(max(n, -most), most)) * time.Second
}
