#!/usr/bin/env bash
# The fast lane: lint, types, contracts, and every test that needs no server, no cluster, no root and
# no long time. Two processes for two cores: the tests that import PyTorch, and everything else.
set -euo pipefail
cd "$(dirname "$0")/.."
export LLMJP_NO_BUILD=1    # tests that need helm skip where it is not built yet
export OMP_NUM_THREADS=1  # two processes on two cores
torch=(tests/engine_builder tests/runtime tests/examples)
fast=(.venv/bin/python -m pytest -q --hypothesis-profile fast
    -m "not cluster and not triton and not slow")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ scripts/lint.sh && "${fast[@]}" tests "${torch[@]/#/--ignore=}"; } > "$log" 2>&1 &
rest=$!
trap 'kill "$rest" 2> /dev/null; rm -f "$log"' EXIT INT TERM
failed=0
"${fast[@]}" "${torch[@]}" || failed=$?
wait "$rest" || failed=$?
cat "$log"
exit "$failed"
