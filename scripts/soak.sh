#!/usr/bin/env bash
# The tests that repeat something, in full: kills at 50 and more moments, thousands of damaged files.
# `make test` runs the same tests with reduced counts. Takes some minutes; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(grep -rl --include='test_*.py' 'from tests.support.soak import' tests e2e | sort)
LLMJP_SOAK=1 exec .venv/bin/python -m pytest -q --timeout 3600 --durations 10 "${files[@]}" "$@"
