#!/usr/bin/env bash
# Proves a wheel in an empty environment: no Rust on the path, nothing but what it says that it needs, another folder to
# stand in.
#
#     scripts/test-wheel.sh PYTHON WHEEL
set -euo pipefail

python=$(command -v "$1"); wheel=$(realpath "$2"); scripts=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
empty=(env -i HOME="$work" LANG=C.UTF-8 PATH=/usr/bin:/bin)
if "${empty[@]}" bash -c 'command -v cargo rustc'; then
    echo "Rust is in /usr/bin, so this cannot prove that the wheel does without" >&2; exit 1
fi
"${empty[@]}" "$python" -m venv environment
# What it needs comes from where the caller's packages come from; the environment itself knows of no such place.
environment/bin/python -m pip download --quiet --disable-pip-version-check --only-binary :all: --dest needs "$wheel"
"${empty[@]}" environment/bin/python -m pip install --quiet --no-index --find-links needs --disable-pip-version-check "$wheel"
"${empty[@]}" environment/bin/python -W error "$scripts/smoke.py"
"${empty[@]}" environment/bin/python -m coterie demo > demo.txt || { cat demo.txt; exit 1; }
"${empty[@]}" environment/bin/coterie --version
echo "wheel proved by $("$python" -VV | head -n 1): $(basename "$wheel"), $(du -k "$wheel" | cut -f 1) kB; the tour is $(wc -l < demo.txt) lines long"
