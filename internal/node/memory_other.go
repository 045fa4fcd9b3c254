// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package node

// releaseProgram does nothing where there is no such call.
func releaseProgram() {}
