#!/usr/bin/env bash
# Installs the project and everything that `make demo` and `make test` need into .venv. Does nothing
# when .venv is up to date; when only dependencies changed, it upgrades in place.
#
#   PYTHON        the interpreter: CPython 3.11 or 3.12 with a shared libpython, because Triton's
#                 python backend loads it. An existing .venv keeps its own otherwise.
#   LLMJP_WHEELS  a folder of wheels that pip may use as well, such as a CPU build of PyTorch; empty
#                 for none. Default: ../shared/wheels where it exists.
#
# pip's own environment variables count too: PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, PIP_INDEX_URL, ...
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# Succeeds if Triton's stub can run in the interpreter $1.
usable() {
    "$1" - <<'PY' 2>/dev/null
import ctypes, os, sys, sysconfig
if sys.implementation.name != "cpython" or sys.version_info[:2] not in ((3, 11), (3, 12)):
    sys.exit(1)
import ensurepip, venv
name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
try:
    ctypes.CDLL(name)
except OSError:
    sys.exit(not os.path.exists(os.path.join(sysconfig.get_config_var("LIBDIR") or "", name)))
PY
}

# Prints the interpreter that $1 is or, in a virtual environment, was made from: the answer is the
# same with and without .venv/bin on PATH, and .venv is never built from itself.
base_of() {
    "$1" -c 'import os, sys; print(os.path.realpath(sys._base_executable))' 2>/dev/null
}

find_python() {
    local candidate base
    for candidate in ${PYTHON:-.venv/bin/python python3.11 python3.12 python3}; do
        if base=$(base_of "$candidate") && usable "$base"; then
            printf '%s\n' "$base"
            return
        fi
    done
    return 1
}

apt_python() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -z "${PYTHON:-}" ] || return 1
    local version
    for version in 3.11 3.12; do
        command -v "python$version" >/dev/null || continue
        say "installing libpython$version (Triton's python backend needs it)"
        apt-get update -qq >&2 && apt-get install -qqy "libpython$version" "python$version-venv" >&2 \
            && return
    done
    return 1
}

# Prints a digest of what decides which packages are installed; settings of ruff and the like do not.
digest_requirements() {
    "$1" - <<'PY'
import hashlib, json, tomllib
with open("pyproject.toml", "rb") as file:
    document = tomllib.load(file)
parts = [document["build-system"], document["project"], document.get("tool", {}).get("hatch")]
print(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest())
PY
}

python=$(find_python) || { apt_python && python=$(find_python); } || {
    say "No usable Python: CPython 3.11 or 3.12 with a shared libpython is needed${PYTHON:+ (PYTHON=$PYTHON is not one)}."
    say "Debian/Ubuntu: apt-get install python3.11 python3.11-venv libpython3.11"
    say "pyenv:         PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11"
    exit 1
}

# Line 1 names the environment: another interpreter or folder needs a new one, because every script
# in it names both. Line 2 names what is installed, written when it all is.
stamp=.venv/.installed
environment="$python in $PWD"
installed=$(digest_requirements "$python")
have_environment='' have_installed=''
[ ! -x .venv/bin/python ] || [ ! -f "$stamp" ] || \
    { read -r have_environment && read -r have_installed; } < "$stamp" || true
[ "$have_environment" = "$environment" ] && [ "$have_installed" = "$installed" ] && exit 0

wheels=${LLMJP_WHEELS-../shared/wheels}
links=()
if [ -n "$wheels" ] && [ -d "$wheels" ]; then
    links=(--find-links "$wheels")
elif [ -n "${LLMJP_WHEELS:-}" ]; then
    say "LLMJP_WHEELS=$LLMJP_WHEELS is not a folder"
    exit 1
fi

if [ "$have_environment" != "$environment" ]; then
    say "installing into a new .venv with $("$python" --version) ($python); this takes minutes"
    "$python" -m venv --clear .venv
else
    say "upgrading .venv: its requirements changed, or an installation did not finish"
fi
printf '%s\n' "$environment" > "$stamp"
quiet=(--quiet)
[ -t 2 ] && quiet=()  # a person sees pip's progress bars
.venv/bin/python -m pip install "${quiet[@]}" --disable-pip-version-check "${links[@]}" -e '.[dev]'
printf '%s\n' "$environment" "$installed" > "$stamp"
