#!/bin/sh
# Makes .venv with the tools that build and test Invar, once for each list of requirements: setup.sh [--no-deps] LIST.txt ...
# Needs a C compiler and Python 3.11 or newer with its headers and venv; says in one sentence what is missing.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "Invar needs $1" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

command -v "${CC:-cc}" >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
    fail "a C compiler, gcc or clang (Debian: apt-get install gcc)."

if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 or newer (Debian: apt-get install python3 python3-dev python3-venv)."
    "$python" -c 'import sys, sysconfig, os; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        fail "Python's C headers (Debian: apt-get install python3-dev)."
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "Python's venv module (Debian: apt-get install python3-venv)."
    "$python" -m venv .venv || fail "a working venv module (Debian: apt-get install python3-venv)."
fi
options="--quiet --disable-pip-version-check"
for list in "$@"; do
    if [ "$list" = --no-deps ]; then
        options="$options --no-deps"
        continue
    fi
    stamp=.venv/$(basename "$list").done
    cmp -s "$list" "$stamp" && continue
    .venv/bin/python -m pip install $options -r "$list" ||
        fail "the Python packages named in $list; installing them failed (see above)."
    cp "$list" "$stamp"
done
