# Sourced by the scripts of this folder: goes to the repository's root and finds an interpreter.
# shellcheck shell=bash
#
#   VENV=…  the environment to use and, where it is missing, to build (default: .venv)
set -euo pipefail

caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${VENV:-.venv}

# The first activated environment wins; without one, the project's own, if it is there.
if [ -x "$venv/bin/python" ] && [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    PATH=$(cd "$venv/bin" && pwd):$PATH
fi
export PATH

# can_import <module…>: whether `python` is there and finds them all. Nothing is imported: that would take seconds.
can_import() {
    python -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' "$@" \
        >/dev/null 2>&1 </dev/null
}

# need <group> <module…>: build the environment of a requirements group where `python` lacks one of the modules.
need() {
    local group=$1
    shift
    if can_import "$@"; then
        return
    fi
    echo "prepare: python does not find all of: $*; setting up $venv ($group)"
    VENV=$venv bash tools/dev/setup.sh "$group"
    PATH=$(cd "$venv/bin" && pwd):$PATH
    if ! can_import "$@"; then
        echo "error: $venv/bin/python does not find all of: $*; remove $venv and try again" >&2
        exit 1
    fi
}

# A configuration may be named from where the caller stands.
from_caller() {
    case ${1:-} in
        "" | /*) echo "${1:-}" ;;
        *) if [ "$caller" != "$PWD" ] && [ -f "$caller/$1" ]; then echo "$caller/$1"; else echo "$1"; fi ;;
    esac
}

# tipc <script> <arguments…>: hand over to the runner; it gets the signals, and its exit status is ours.
tipc() {
    local script=$1 config
    shift
    if [ $# -gt 0 ]; then
        config=$(from_caller "$1")
        shift
        set -- "$config" "$@"
    fi
    exec python test_tipc/tipc.py "$script" "$@"
}
