#!/usr/bin/env bash
# Build a Python environment that can run web_service.py: Paddle Serving 0.9.0 on Python 3.9.
#
#   deploy/paddleserving/setup_serving.sh [folder]        default folder: .venv-paddleserving in the current one
#
# PYTHON39=…   the interpreter to build on (default: python3.9)
#
# A second run does nothing. The last line is the command that makes the tests use it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
unset PYTHONHOME PYTHONPATH

fail() {
    echo "error: $*" >&2
    exit 1
}

folder=${1:-.venv-paddleserving}
stamp=$folder/paddleserving.sha256
wanted=$(cat "$here/requirements.txt" "${BASH_SOURCE[0]}" | sha256sum)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    base=${PYTHON39:-python3.9}
    command -v "$base" >/dev/null || fail "$base is not there; Paddle Serving 0.9 needs Python 3.9: set PYTHON39=/path/to/it"
    version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$base does not run"
    [ "$version" = 3.9 ] || fail "$base is Python $version; Paddle Serving 0.9 needs Python 3.9: set PYTHON39=/path/to/it"
    if [ -e "$folder" ] && [ ! -f "$folder/pyvenv.cfg" ]; then
        fail "$folder is there already and is no Python environment; name another folder"
    fi
    "$base" -m venv "$folder"
    pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" -r "$here/requirements.txt" || fail "the packages could not be installed; see above"
    "${pip[@]}" --no-deps paddle-serving-app==0.9.0 || fail "paddle-serving-app could not be installed; see above"
    "$folder/bin/python" -c '
import paddle, paddle_serving_app.local_predict, paddle_serving_server.web_service
print("paddle", paddle.__version__, "and paddle_serving_server are importable")
' || fail "the packages are installed but cannot be imported; see above"
    printf '%s\n' "$wanted" >"$stamp"
fi
echo "PADDLE_SERVING_PYTHON=$(cd "$folder" && pwd)/bin/python"
