#!/usr/bin/env bash
# Runs the Python tests on a free-threaded CPython, 3.14 or later, with the GIL off from first to last.
#
#     scripts/test-free-threaded.sh [PYTHON]      python3.14t or python3.15t from the path, when not named
set -euo pipefail

cd "$(dirname "$0")/.."
python=${1:-}
if [ -z "$python" ]; then
    python=$(command -v python3.14t || command -v python3.15t) || {
        echo "no free-threaded CPython on the path: name one (make test-free-threaded PYTHON_FREE_THREADED=…)," >&2
        echo "or build one (scripts/free-threaded-python.sh)" >&2
        exit 1
    }
fi
"$python" -c 'import sys, sysconfig; sys.exit(not sysconfig.get_config_var("Py_GIL_DISABLED") and f"{sys.executable} has a GIL")'
environment=.venv-free-threaded
unset PYO3_PYTHON
[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
"$environment/bin/python" -m pip install --quiet --group build --group test
rm -rf dist/free-threaded
"$environment/bin/maturin" build --quiet --release --locked --interpreter "$environment/bin/python" --out dist/free-threaded
"$environment/bin/python" -m pip install --quiet --force-reinstall --no-deps dist/free-threaded/*.whl
# Without PYTHON_GIL: an extension that does not declare itself safe would turn the GIL on, and must be seen to.
"$environment/bin/python" -W error -c 'import sys, coterie, coterie._coterie
assert not sys._is_gil_enabled(), "importing coterie turned the GIL on"
print("GIL off after import:", sys.version)'
"$environment/bin/python" -m pytest tests/python
