# SPDX-License-Identifier: Apache-2.0
#
# Two commands matter to a newcomer: `make demo` and `make test`. `make help` lists the rest.

export CGO_ENABLED := 0
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: build
build: bin/kruise-manager bin/lab ## Build the manager and the lab into bin/.

.PHONY: bin/kruise-manager
bin/kruise-manager:
	go build -o $@ ./cmd/kruise-manager

.PHONY: bin/lab
bin/lab:
	@hack/build-lab.sh $@
