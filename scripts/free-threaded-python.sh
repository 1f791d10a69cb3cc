#!/usr/bin/env bash
# Builds a free-threaded CPython from the distribution's own source package, where no binary one is to be had.
#
#     scripts/free-threaded-python.sh DESTINATION [SUITE] [PACKAGE]
#     scripts/free-threaded-python.sh "$HOME/python3.14t" sid python3.14
#     make test-free-threaded PYTHON_FREE_THREADED="$HOME/python3.14t/bin/python3"
#
# For Debian and its kin; asks the mirror that the machine is set up for, and touches none of the machine's own
# package lists. Needs a C compiler and the headers of OpenSSL, libffi and zlib (libssl-dev, libffi-dev, zlib1g-dev);
# takes four to eight minutes on two cores. PyO3 wants 3.14 or later.
set -euo pipefail

destination=$(realpath -m "${1:?where should it be installed?}")
suite=${2:-sid}
package=${3:-python3.14}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,parts,source,build}
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$work/sources.list"
: > "$work/status"
apt=(apt-get -q -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)"
    -o "Dir::Etc::sourcelist=$work/sources.list" -o "Dir::Etc::sourceparts=$work/parts"
    -o "Dir::State=$work" -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status"
    -o "Dir::Cache=$work/cache")

cd "$work/source"
"${apt[@]}" update
# A suite that moves may name a version which its mirror has already dropped: then this says 404, and a later day helps.
"${apt[@]}" source --download-only "$package"
tar --extract --strip-components=1 --directory "$work/build" --file "$(ls "$work"/source/*.orig.tar.?z)"

cd "$work/build"
./configure --prefix="$destination" --disable-gil --with-ensurepip=install > configure.log 2>&1 || { tail -n 20 configure.log; exit 1; }
make -j "$(nproc)" > make.log 2>&1 || { tail -n 20 make.log; exit 1; }
make install > install.log 2>&1 || { tail -n 20 install.log; exit 1; }
"$destination/bin/python3" -c 'import ctypes, ssl, sys, sysconfig, zlib
assert sysconfig.get_config_var("Py_GIL_DISABLED") == 1
print(sys.version)'
