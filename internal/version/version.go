// SPDX-License-Identifier: Apache-2.0

// Package version tells the version of Kruise that a program was built from.
package version

import "runtime/debug"

// version is set by the linker when images are built (make images).
var version string

// String is the version that the build was given ("v1.9.0"), or else "dev" with the commit where Go knows it
// ("dev-1a2b3c4d5e6f"). It is never empty.
func String() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	return fromSettings(info.Settings)
}

func fromSettings(settings []debug.BuildSetting) string {
	for _, s := range settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev-" + s.Value[:12]
		}
	}
	return "dev"
}
