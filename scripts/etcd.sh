#!/usr/bin/env bash
# scripts/etcd.sh FOLDER: prints the path of an etcd; if none is on PATH, Debian's package is unpacked into FOLDER.
# The system stays as it is: apt keeps its lists for this below FOLDER. ETCD_SUITE picks another release of Debian.
set -euo pipefail
folder=$(realpath -m "${1:?usage: scripts/etcd.sh FOLDER}") suite=${ETCD_SUITE:-sid}
if command -v etcd; then exit; fi
binary=$folder/unpacked/usr/bin/etcd
if [ ! -x "$binary" ]; then
    command -v apt-get > /dev/null || { echo "no etcd on PATH, and no apt-get to get it with" >&2; exit 1; }
    mkdir -p "$folder"/{lists/partial,cache/archives/partial,parts,unpacked}
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$folder/sources.list"
    : > "$folder/status"
    apt=(apt-get -q
        -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts="$folder/parts"
        -o Dir::State="$folder" -o Dir::State::lists="$folder/lists" -o Dir::State::status="$folder/status"
        -o Dir::Cache="$folder/cache" -o Debug::NoLocking=1)
    "${apt[@]}" update >&2
    (cd "$folder/cache" && "${apt[@]}" download etcd-server >&2)
    dpkg-deb -x "$folder"/cache/etcd-server_*.deb "$folder/unpacked"
fi
"$binary" --version >&2
echo "$binary"
