#!/usr/bin/env bash
# Make $VENV (default .venv) hold the pinned packages of one group; does nothing when it holds them already.
#
#   tools/dev/setup.sh [main|serving|dev|bench]
#
# PYTHON=…  the interpreter to build on (default: the first of python3.11, 3.12, 3.10, python3, python that works)
# VENV=…    where to build it
#
# A stamp per group, written last, keeps the hash of the requirement files and the Python version. No stamp, no claim.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
unset PYTHONHOME PYTHONPATH

group=${1:-main}
venv=${VENV:-.venv}
override=${PYTHON:-}
log=$venv-setup.log

fail() {
    echo "error: set-up failed: $*" >&2
    exit 1
}

case $group in
    main) requirements=requirements.txt ;;
    serving) requirements=requirements-serving.txt ;;
    dev) requirements=requirements-dev.txt ;;
    bench) requirements=requirements-bench.txt ;;
    *) fail "no such group of packages: $group (there are main, serving, dev, bench)" ;;
esac

# Prints "3.11.7" for an interpreter that can build a venv for this project, else says why not and returns 1.
# Running it is the only honest test: a shim can be on PATH and fail when called.
probe() {
    local version
    if ! command -v "$1" >/dev/null 2>&1; then
        echo "there is no such command or file"
        return 1
    fi
    if ! version=$("$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null </dev/null); then
        echo "it is there but does not run"
        return 1
    fi
    case $version in
        3.10.* | 3.11.* | 3.12.*) ;;
        *)
            echo "it is Python $version"
            return 1
            ;;
    esac
    if ! "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null; then
        echo "its venv module is missing (on Debian and Ubuntu: the package python${version%.*}-venv)"
        return 1
    fi
    echo "$version"
}

choose_python() {
    local name path
    if [ -n "$override" ]; then
        probe "$override" >/dev/null || fail "PYTHON=$override can't be used: $(probe "$override" || true);" \
            "Python 3.10, 3.11 or 3.12 is needed"
        echo "$override"
        return
    fi
    for name in python3.11 python3.12 python3.10 python3 python; do
        # Every match on PATH, since a broken shim may hide a sound interpreter behind it.
        while read -r path; do
            if probe "$path" >/dev/null; then
                echo "$path"
                return
            fi
        done < <(type -aP "$name")
    done
    fail "no working Python 3.10, 3.11 or 3.12 found on PATH; install one or name it: make setup PYTHON=/path/to/python3.11"
}

venv_version() {
    "$venv/bin/python" -c 'import sys, pip; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null </dev/null
}

# A venv that was copied or moved runs, but its scripts point at the old place.
venv_is_sound() {
    local version
    [ -x "$venv/bin/python" ] || return 1
    version=$(venv_version) || return 1
    case $version in 3.10.* | 3.11.* | 3.12.*) ;; *) return 1 ;; esac
    grep -qF "$(cd "$venv" && pwd)" "$venv/bin/activate" || return 1
    [ -z "$override" ] || [ "$version" = "$wanted_version" ]
}

fingerprint() {
    cat requirements.txt requirements-serving.txt "$requirements" constraints.txt tools/dev/smoke.py | cksum | tr ' ' '-'
    venv_version
}

is_done() {
    venv_is_sound && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]
}

# run <what it does> <command…>: quiet, logged; on failure one line with the tool's own first complaint.
run() {
    local what=$1 reason
    shift
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        reason=$(grep -m 1 -iE '^(ERROR|[A-Za-z]*Error):' "$log" | sed 's/^ERROR: //' || true)
        [ -n "$reason" ] || reason=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 || true)
        if grep -qF 'WARNING: Retrying (' "$log"; then
            reason="the package index did not answer; $reason"
        fi
        fail "$what: ${reason:-no message} (full log: $log)"
    fi
}

stamp=$venv/.stamp-$group
wanted_version=
if [ -n "$override" ]; then
    python=$(choose_python)
    wanted_version=$(probe "$python")
fi
if is_done; then
    exit 0
fi

# Two of these at once would write into the same venv; the second waits and then finds the work done.
mkdir -p "$(dirname "$venv")"
if command -v flock >/dev/null 2>&1; then
    exec 9>"$venv.lock"
    flock 9
    if is_done; then
        exit 0
    fi
fi

started=$SECONDS
: >"$log"
if ! venv_is_sound; then
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
        fail "$venv exists and is not a Python environment; remove it or choose another place with VENV="
    fi
    python=${python:-$(choose_python)}
    echo "set-up: creating $venv with $python ($(probe "$python"))"
    rm -f "$venv"/.stamp-*
    run "creating $venv with $python" "$python" -m venv --clear "$venv"
fi
rm -f "$stamp"
echo "set-up: installing $requirements into $venv (first time: a minute or more; log: $log)"
run "installing $requirements" "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -r "$requirements"
run "trying the installed packages" "$venv/bin/python" tools/dev/smoke.py
fingerprint >"$stamp.new"
mv "$stamp.new" "$stamp"
echo "set-up: $venv is ready ($group, Python $(venv_version), $((SECONDS - started)) s)"
