#!/usr/bin/env bash
# Builds what the chart is rendered and tested with from the Go module tests/charts/tools, whose
# go.sum names the hash of every source: helm, helm-unittest, and a check of the Prometheus
# operator's kinds. Prints the folder they are in. Does nothing when they are there already (a
# minute or three on 2 cores, once; one build at a time); leaves nothing half-done; exits 3 where
# there is no Go, or with LLMJP_NO_BUILD set, which the fast lane does.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../tests/charts/tools"

format=2  # raise it when this script builds otherwise
wanted=$({ cat go.mod go.sum main.go; echo "$format"; } | sha256sum | cut -c 1-12)
target=${XDG_CACHE_HOME:-$HOME/.cache}/llmjp-serving/helm-$wanted

build() {
    PATH=$PATH:/usr/local/go/bin
    command -v go > /dev/null || {
        echo "Go 1.26 or newer is needed to build helm (https://go.dev/dl)" >&2
        exit 3
    }
    echo "building helm and helm-unittest (once)" >&2
    local partial
    partial=$(mktemp -d "$target.XXXXXX")
    # shellcheck disable=SC2064  # the name of now
    trap "rm -rf '$partial'" EXIT
    # Without these helm takes clusters that it does not ask to be of Kubernetes 1.20.
    local helm=helm.sh/helm/v3 flags package
    flags="-s -w -X $helm/internal/version.version=$(go list -m -f '{{.Version}}' $helm)"
    for package in pkg/lint/rules pkg/chartutil; do
        flags="$flags -X $helm/$package.k8sVersionMajor=1 -X $helm/$package.k8sVersionMinor=34"
    done
    CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -buildvcs=false -trimpath -ldflags "$flags" \
        -o "$partial/" $helm/cmd/helm github.com/helm-unittest/helm-unittest/cmd/helm-unittest . >&2
    mv "$partial/charts" "$partial/monitoring-types"
    chmod 755 "$partial"
    mv -T "$partial" "$target"
}

if [ ! -d "$target" ]; then
    [ -z "${LLMJP_NO_BUILD:-}" ] || {
        echo "helm is not built; \`make test\` builds it (scripts/install-helm.sh)" >&2
        exit 3
    }
    mkdir -p "$(dirname "$target")"
    exec 9> "$target.lock"
    flock 9
    [ -d "$target" ] || build
fi
printf '%s\n' "$target"
