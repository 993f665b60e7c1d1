#!/usr/bin/env bash
# What the chart is rendered and tested with, built from the Go module tests/charts/tools, whose
# go.sum names the hash of every source: helm, helm-unittest, and a check of the Prometheus
# operator's kinds. Prints the folder they are in. Does nothing when they are there already (a
# minute or three on 2 cores, once); leaves nothing half-done; exits 3 where there is no Go.
set -euo pipefail
script=$(realpath "$0")
cd "$(dirname "$script")/../tests/charts/tools"

wanted=$(cat go.mod go.sum main.go "$script" | sha256sum | cut -c 1-12)
target=${XDG_CACHE_HOME:-$HOME/.cache}/llmjp-serving/helm-$wanted

if [ ! -d "$target" ]; then
    PATH=$PATH:/usr/local/go/bin
    command -v go > /dev/null || {
        echo "Go 1.26 or newer is needed to build helm (https://go.dev/dl)" >&2
        exit 3
    }
    echo "building helm and helm-unittest (once)" >&2
    mkdir -p "$(dirname "$target")"
    partial=$(mktemp -d "$target.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    # Without these helm takes clusters that it does not ask to be of Kubernetes 1.20.
    helm=helm.sh/helm/v3
    flags="-s -w -X $helm/internal/version.version=$(go list -m -f '{{.Version}}' $helm)"
    for package in pkg/lint/rules pkg/chartutil; do
        flags="$flags -X $helm/$package.k8sVersionMajor=1 -X $helm/$package.k8sVersionMinor=34"
    done
    CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -buildvcs=false -trimpath -ldflags "$flags" \
        -o "$partial/" $helm/cmd/helm github.com/helm-unittest/helm-unittest/cmd/helm-unittest . >&2
    mv "$partial/charts" "$partial/monitoring-types"
    chmod 755 "$partial"
    mv -T "$partial" "$target" 2> /dev/null || [ -d "$target" ]
fi
printf '%s\n' "$target"
