// SPDX-License-Identifier: Apache-2.0

package cri

func ownerOf(string) string { return "" }
