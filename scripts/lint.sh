#!/usr/bin/env bash
# Everything that reads the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
ruff format --check -q .
ruff check -q .
if command -v actionlint > /dev/null; then
    actionlint
fi
mypy &
types=$!
contracts=0
lint-imports --no-cache || contracts=$?
wait "$types"
exit "$contracts"
