#!/usr/bin/env bash
# scripts/test-upgrade.sh FEATURES
# Members of this build replace those of the last tag (v*) one after the other, and take over their data. When there is no
# tag, or nothing has changed since, a build whose format version is raised replaces this one.
set -euo pipefail

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo} features=$1

member_tests() { # those of the sources in a folder, built in another: an executable, whose processes are members
    "$cargo" test --locked --features "$features" --test member --no-run --message-format=json \
        --manifest-path "$1/Cargo.toml" --target-dir "$2" \
        | sed -n 's/.*"name":"member".*"executable":"\([^"]*\)".*/\1/p'
}

tag=$(git describe --tags --abbrev=0 --match 'v*' 2> /dev/null || true)
if [ -n "$tag" ] && ! git diff --quiet "$tag" -- src; then
    rm -rf "target/tags/$tag"
    mkdir -p target/tags
    git archive --prefix="$tag/" "$tag" | tar -x -C target/tags
    # A folder of its own: cargo takes sources of the same name and version for the same.
    before=$(member_tests "target/tags/$tag" target/tags/target)
    tests=(--test member)
else
    tag=
    before=$(member_tests . target)
    features+=,raised-version
    tests=(--test member --test rust)
fi
echo "from ${tag:-this build to one whose version is raised}"
COTERIE_BUILD_BEFORE=$before "$cargo" test --quiet --locked --features "$features" "${tests[@]}" -- upgrade:: releases::
