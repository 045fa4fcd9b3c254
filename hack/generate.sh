#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Regenerates everything that is made from the types in api/: deep copies, CustomResourceDefinitions, the listing of the
# contract, the Go client, and the API reference; and the webhook configurations from the manager's inventory. The result
# depends on nothing but the tree.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export CGO_ENABLED=0
unset GOFLAGS
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
header="$root/hack/boilerplate.go.txt"

# The tools are pinned in a module of their own; they are built once, into the build cache.
for tool in controller-gen client-gen lister-gen informer-gen applyconfiguration-gen; do
	pkg=$(sed -n "s#^\t\(.*/cmd/$tool\)\$#\1#p" tools/go.mod)
	go build -modfile=tools/go.mod -o "$scratch/bin/$tool" "$pkg"
done

echo "deep copies and CustomResourceDefinitions" >&2
(cd api && "$scratch/bin/controller-gen" paths=./... \
	"object:headerFile=$header" \
	crd:crdVersions=v1 "output:crd:dir=$scratch/crd")
go run ./hack/gencrd "$scratch/crd" config/crd

echo "webhook configurations" >&2
go run ./internal/manager/webhooks/generate config/webhook/manifests.yaml

echo "chart" >&2
go run ./hack/genchart

echo "listing of the contract" >&2
go test ./test/wire -run TestContractListing -count=1 -args -update >/dev/null

echo "client" >&2
module=kruise.io/kruise/client
versions=()
for dir in api/{apps,policy,rollouts}/v*; do
	versions+=("kruise.io/kruise/$dir")
done
rm -rf client/applyconfiguration client/clientset client/listers client/informers
(
	cd client
	# Types of Kubernetes itself have their apply configurations in client-go.
	external=()
	for group in core apps batch; do
		dir=$(go list -f '{{.Dir}}' "k8s.io/client-go/applyconfigurations/$group/v1")
		for type in $(sed -n 's/^type \(.*\)ApplyConfiguration struct.*/\1/p' "$dir"/*.go); do
			external+=("k8s.io/api/$group/v1.$type:k8s.io/client-go/applyconfigurations/$group/v1")
		done
	done
	"$scratch/bin/applyconfiguration-gen" --go-header-file "$header" \
		--external-applyconfigurations "$(IFS=,; echo "${external[*]}")" \
		--output-dir applyconfiguration --output-pkg $module/applyconfiguration \
		"${versions[@]}"
	"$scratch/bin/client-gen" --go-header-file "$header" --clientset-name versioned \
		--input-base "" --input "$(IFS=,; echo "${versions[*]}")" \
		--output-dir clientset --output-pkg $module/clientset \
		--apply-configuration-package $module/applyconfiguration
	"$scratch/bin/lister-gen" --go-header-file "$header" \
		--output-dir listers --output-pkg $module/listers "${versions[@]}"
	"$scratch/bin/informer-gen" --go-header-file "$header" \
		--output-dir informers --output-pkg $module/informers \
		--versioned-clientset-package $module/clientset/versioned --listers-package $module/listers "${versions[@]}"
	gofmt -w .
)

echo "API reference" >&2
go run ./hack/genref config/crd/bases > docs/api-reference.md.tmp
mv docs/api-reference.md.tmp docs/api-reference.md

echo "tables of the operations manual" >&2
go run ./hack/genops docs/operations.md
