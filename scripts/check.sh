#!/usr/bin/env bash
# The fast lane: lint, types, contracts, and every test that needs no server, no cluster, no root and
# no long time. Two processes for two cores: most tests that import PyTorch, and everything else.
set -euo pipefail
cd "$(dirname "$0")/.."
export LLMJP_NO_BUILD=1    # tests that need helm skip where it is not built yet
export OMP_NUM_THREADS=1  # two processes on two cores
torch=(tests/engine_builder tests/runtime tests/examples)
light=(tests/engine_builder/planning tests/engine_builder/sources)  # with the rest: equal times
fast=(.venv/bin/python -m pytest -q --hypothesis-profile fast
    -m "not cluster and not triton and not slow")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ scripts/lint.sh && "${fast[@]}" "${torch[@]/#/--ignore=}" tests "${light[@]}"; } > "$log" 2>&1 &
rest=$!
# `set -e` holds in traps, too: without `|| true` a process that has ended would be a failure.
trap 'kill "$rest" 2> /dev/null || true; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
failed=0
"${fast[@]}" "${light[@]/#/--ignore=}" "${torch[@]}" || failed=$?
wait "$rest" || failed=$?
cat "$log"
exit "$failed"
