#!/usr/bin/env bash
# Makes .venv with the project and everything `make demo` and `make test` need. Does nothing when
# it is up to date. PYTHON chooses the interpreter; it must be CPython 3.11 or 3.12 with a shared
# libpython, because Triton's python backend loads it.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# Prints nothing and succeeds if $1 is a Python that Triton's stub can run in.
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

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
        if usable "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
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

python=$(find_python) || { apt_python && python=$(find_python); } || {
    say "No usable Python: CPython 3.11 or 3.12 with a shared libpython is needed${PYTHON:+ (PYTHON=$PYTHON is not one)}."
    say "Debian/Ubuntu: apt-get install python3.11 python3.11-venv libpython3.11"
    say "pyenv:         PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11"
    exit 1
}

stamp=.venv/.installed
wanted=$({ echo "$python" "$PWD"; cat pyproject.toml scripts/install.sh; } | sha256sum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

say "installing into .venv with $("$python" --version) ($python)"
"$python" -m venv --clear .venv
wheels=../shared/wheels
links=()
[ -d "$wheels" ] && links=(--find-links "$wheels")
quiet=(--quiet)
[ -t 2 ] && quiet=()  # a person sees pip's progress bars
.venv/bin/python -m pip install "${quiet[@]}" --disable-pip-version-check "${links[@]}" -e '.[dev]'
echo "$wanted" > "$stamp"
