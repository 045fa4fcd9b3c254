# SPDX-License-Identifier: Apache-2.0
#
# Two commands matter to a newcomer: `make demo` and `make test`. `make help` lists the rest.

export CGO_ENABLED := 0
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Modules of this repository whose code is ours (tools/ only pins versions).
MODULES := . api client lab
GO_TOOL = go tool -modfile=$(CURDIR)/tools/go.mod
TIMED = hack/timed.sh

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: build
build: bin/kruise-manager bin/lab ## Build the manager and the lab into bin/.

.PHONY: bin/kruise-manager
bin/kruise-manager:
	@go build -trimpath -ldflags "-s -w" -o $@ ./cmd/kruise-manager

.PHONY: bin/lab
bin/lab:
	@hack/build-lab.sh $@

.PHONY: demo
demo: build ## Update a CloneSet in place on a real control plane, beside a Deployment. KEEP=1 leaves the cluster running.
	@go run ./demo $(if $(KEEP),--keep)

.PHONY: test
test: build ## Run every test that needs no real node: unit, property, wire, integration.
	@$(TIMED) "unit and property tests" go test $(TESTFLAGS) ./cmd/... ./config/... ./internal/... ./test/wire/... ./test/lab/...
	@$(TIMED) "api and client modules" bash -c 'for m in api client; do go -C $$m test $(TESTFLAGS) ./...; done'
	@$(TIMED) "lab tests" env KRUISE_LAB_BIN=$(CURDIR)/bin/lab go -C lab test $(TESTFLAGS) ./...
	@$(TIMED) "integration tests" go test -timeout 25m $(TESTFLAGS) ./test/integration/...
	@$(TIMED) "fault tests, the short part" go test -timeout 15m $(TESTFLAGS) ./test/fault/...

.PHONY: bench
bench: build ## Measure CloneSets beside Deployments on simulated nodes, and the planner by itself.
	@go test -run '^$$' -bench . -benchmem ./internal/...
	@go run ./test/perf $(BENCHFLAGS)

.PHONY: e2e
e2e: build ## Run the tests that need real nodes (root, Linux; installs a container runtime from Debian packages).
	@hack/install-node-deps.sh
	@$(TIMED) "e2e tests on real nodes" env KRUISE_E2E=1 go test -count=1 -timeout 25m $(TESTFLAGS) ./test/e2e/...

.PHONY: fault
fault: build ## Run all fault tests: every crash point, stale caches, killed processes. Prints faults, checks and violations.
	@$(TIMED) "fault tests" bash -o pipefail -c "KRUISE_FAULT=all go test -count=1 -v -timeout 60m $(TESTFLAGS) ./test/fault/... | grep -v '^=== '"

.PHONY: soak
soak: build ## Keep a manager busy for MINUTES (10) and check that it holds no more afterwards than before.
	@$(TIMED) "soak" bash -o pipefail -c "KRUISE_SOAK_MINUTES=$(or $(MINUTES),10) go test -count=1 -v -timeout 0 -run '^TestSoak$$' ./test/fault | grep -v '^=== '"

.PHONY: generate
generate: ## Regenerate deep copies, CRDs, webhook configurations, RBAC, the client and the API reference.
	@hack/generate.sh

.PHONY: lint
lint: ## Vet and lint every module.
	@for m in $(MODULES); do echo "lint $$m"; (cd $$m && go vet ./... && $(GO_TOOL) golangci-lint run --allow-parallel-runners -c $(CURDIR)/.golangci.yml ./...); done

.PHONY: verify
verify: ## Check formatting, lint, module files and that generated files are up to date.
	@$(TIMED) "formatting" bash -c 'out=$$(gofmt -l api client cmd config demo internal lab test); [ -z "$$out" ] || { echo "gofmt needed: $$out" >&2; exit 1; }'
	@$(TIMED) "module files" hack/verify-modules.sh $(MODULES)
	@$(TIMED) "generated files" hack/verify-generated.sh
	@$(TIMED) "lint" $(MAKE) --no-print-directory lint
	@$(TIMED) "vulnerabilities" hack/verify-vulnerabilities.sh

.PHONY: clean
clean: ## Remove what the other targets built.
	rm -rf bin .lab
