#!/usr/bin/env bash
# Runs the tests of pools and executors on a build whose pools work as on macOS: POSIX shared memory and pipes, no futexes.
#
#     scripts/test-portable-pool.sh [PYTEST'S OPTIONS]
set -euo pipefail

cd "$(dirname "$0")/.."
tools=.venv environment=.venv-portable dist=dist/portable
# The same tools, and another build of the package before them.
[ -x "$environment/bin/python" ] || "$tools/bin/python" -m venv --without-pip "$environment"
purelib() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
purelib "$tools" > "$(purelib "$environment")/tools.pth"
"${CARGO:-cargo}" test --quiet --locked --features portable-pool --lib -- pool::
rm -rf "$dist"
"$tools/bin/maturin" build --quiet --profile dev --locked --features python,portable-pool \
    --interpreter "$tools/bin/python" --out "$dist"
"$tools/bin/python" -m pip --python "$environment/bin/python" install --quiet --force-reinstall --no-deps "$dist"/*.whl
"$environment/bin/python" -c 'from coterie._coterie import PoolCore
assert PoolCore.is_portable(), "this build has the pools of Linux"'
"$environment/bin/python" -m pytest tests/python/test_pool*.py tests/python/test_executor.py tests/python/test_aio.py "$@"
