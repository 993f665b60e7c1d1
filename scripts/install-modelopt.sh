#!/usr/bin/env bash
# NVIDIA's modelopt, which some FP8 tests compare with, beside .venv: it pins packages that we do not
# want in there. Prints the folder for PYTHONPATH. Does nothing when it is there already; leaves
# nothing half-done; fails without a network, and the tests that need it then skip.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.37.0
python=.venv/bin/python
tag=$("$python" -c 'import platform; print(platform.python_version())')
target=${XDG_CACHE_HOME:-$HOME/.cache}/llmjp-serving/modelopt-$version-$tag

if [ ! -d "$target" ]; then
    mkdir -p "$(dirname "$target")"
    partial=$(mktemp -d "$target.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    # --no-deps: torch, transformers and numpy come from .venv.
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$partial" \
        "nvidia-modelopt==$version" 'torchprofile==0.1.*' 'ninja==1.*' 'nvidia-ml-py>=12,<14' \
        'scipy>=1.14,<1.18' 'pulp>=2.9,<4' regex >&2
    chmod 755 "$partial"
    mv -T "$partial" "$target" 2>/dev/null || [ -d "$target" ]
fi
printf '%s\n' "$target"
