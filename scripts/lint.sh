#!/usr/bin/env bash
# Everything that reads the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
ruff format --check -q .
ruff check -q .
mypy
lint-imports --no-cache
