# SPDX-License-Identifier: Apache-2.0
#
# Two commands matter to a newcomer: `make demo` and `make test`. `make help` lists the rest.

export CGO_ENABLED := 0
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# Modules of this repository whose code is ours (tools/ only pins versions).
MODULES := . api client lab images
GO_TOOL = go tool -modfile=$(CURDIR)/tools/go.mod
TIMED = hack/timed.sh

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: build
build: bin/kruise-manager bin/kruise-daemon bin/lab ## Build manager, agent and lab into bin/.

.PHONY: bin/kruise-manager
bin/kruise-manager:
	@go build -trimpath -ldflags "-s -w" -o $@ ./cmd/kruise-manager

.PHONY: bin/kruise-daemon
bin/kruise-daemon:
	@go build -trimpath -ldflags "-s -w" -o $@ ./cmd/kruise-daemon

.PHONY: bin/lab
bin/lab:
	@hack/build-lab.sh $@

.PHONY: bin/helm-hook
bin/helm-hook:
	@go build -trimpath -ldflags "-s -w" -o $@ ./cmd/helm-hook

# Helm itself, at the version that tools/go.mod pins: two minutes of two cores, once.
bin/helm: tools/go.mod
	@echo "building helm (cached afterwards)" >&2
	@go build -modfile=tools/go.mod -ldflags "-s -w" -o $@ helm.sh/helm/v4/cmd/helm
	@touch $@

.PHONY: chart
chart: bin/helm ## Check the Helm charts: lint and render them (installing them is among the tests).
	@bin/helm lint --quiet charts/kruise charts/kruise-crds
	@bin/helm template kruise charts/kruise >/dev/null
	@bin/helm template kruise-crds charts/kruise-crds >/dev/null

.PHONY: images
images: ## Build the container images into bin/images/*.tar. PLATFORMS=linux/amd64 builds for one platform only.
	@go -C images run . --root .. --out $(CURDIR)/bin/images $(if $(PLATFORMS),--platforms $(PLATFORMS)) $(if $(VERSION),--version $(VERSION))

.PHONY: demo
demo: build ## Update a CloneSet in place on a real control plane, beside a Deployment. KEEP=1 leaves the cluster running.
	@go run ./demo $(if $(KEEP),--keep)

.PHONY: test
test: build bin/helm bin/helm-hook ## Run every test that needs no real node: unit, property, wire, integration.
	@$(TIMED) "unit and property tests" go test $(TESTFLAGS) ./cmd/... ./config/... ./internal/... ./test/wire/... ./test/lab/... ./test/chart/... ./test/docs/... ./test/sim/...
	@$(TIMED) "api, client and images modules" bash -c 'for m in api client images; do go -C $$m test $(TESTFLAGS) ./...; done'
	@$(TIMED) "lab tests" env KRUISE_LAB_BIN=$(CURDIR)/bin/lab go -C lab test $(TESTFLAGS) ./...
	@$(TIMED) "integration tests" go test -timeout 25m $(TESTFLAGS) ./test/integration/...
	@$(TIMED) "fault tests, the short part" go test -timeout 15m $(TESTFLAGS) ./test/fault/...

.PHONY: bench
bench: build ## Measure CloneSets beside Deployments on simulated nodes, and the planner by itself.
	@go test -run '^$$' -bench . -benchmem ./internal/...
	@go run ./test/perf $(BENCHFLAGS)

.PHONY: sim
sim: ## Run the CloneSet controller through seeded schedules in memory for SECONDS=300, from the seed FROM=1 on.
	@KRUISE_SIM_SECONDS=$(or $(SECONDS),300) KRUISE_SIM_FROM=$(or $(FROM),1) go test -count=1 -timeout 0 -run TestSchedules -v ./test/sim

.PHONY: e2e
e2e: bin/lab bin/helm ## Install Kruise with its chart on real nodes and test it there (root, Linux; installs a container runtime from Debian packages).
	@hack/install-node-deps.sh
	@$(TIMED) "image for the nodes" $(MAKE) --no-print-directory images PLATFORMS=linux/amd64
	@$(TIMED) "e2e tests on real nodes" env KRUISE_E2E=1 go test -count=1 -timeout 25m -parallel 8 $(TESTFLAGS) ./test/e2e/...

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
	@$(TIMED) "formatting" bash -c 'out=$$(gofmt -l api client cmd config demo images internal lab test); [ -z "$$out" ] || { echo "gofmt needed: $$out" >&2; exit 1; }'
	@$(TIMED) "module files" hack/verify-modules.sh $(MODULES)
	@$(TIMED) "generated files" hack/verify-generated.sh
	@$(TIMED) "lint" $(MAKE) --no-print-directory lint
	@$(TIMED) "vulnerabilities" hack/verify-vulnerabilities.sh
	@$(TIMED) "licences" go -C images run . licences $(addprefix ../,$(MODULES))

.PHONY: cross
cross: ## Compile the agent for Windows (takes minutes the first time).
	@$(TIMED) "agent for Windows" env GOOS=windows GOARCH=amd64 go build -trimpath -ldflags "-s -w" -o bin/kruise-daemon.exe ./cmd/kruise-daemon

.PHONY: clean
clean: ## Remove what the other targets built.
	rm -rf bin .lab
