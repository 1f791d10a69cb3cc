#!/usr/bin/env bash
# Proves `pip install .` as a newcomer types it.
#
#     scripts/test-source.sh PYTHON
set -euo pipefail

repository=$(realpath "$(dirname "$0")/.."); scripts=$repository/scripts
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$1" -m venv environment
# pip builds in an environment of its own; only cargo's target folder is shared with the other steps.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$repository/target}
environment/bin/python -m pip install --quiet --disable-pip-version-check "$repository"
environment/bin/python -W error "$scripts/smoke.py"
echo "source proved: pip install ."
