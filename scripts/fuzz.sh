#!/bin/sh
# Runs the targets of fuzz/, each for so many seconds, led by what of the code they reach (libFuzzer, on stable Rust).
# usage: scripts/fuzz.sh SECONDS [TARGET …]
#
# What a target has found interesting stays in the target folder and is where the next run begins.
set -eu
seconds=$1
shift
cd "$(dirname "$0")/../fuzz"
CARGO=${CARGO:-cargo}
build=${CARGO_TARGET_DIR:-$PWD/target}/led
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-bolero would say; with --target, so that build scripts are not led, too.
RUSTFLAGS="--cfg fuzzing --cfg fuzzing_libfuzzer -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=3 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
export RUSTFLAGS
export CARGO_TARGET_DIR="$build"
binary=$($CARGO test --quiet --locked --target "$host" --no-run --message-format=json |
    sed -n 's/.*"name":"targets".*"executable":"\([^"]*\)".*/\1/p')

[ $# -gt 0 ] || set -- $("$binary" --list 2>/dev/null | sed -n 's/: test$//p')
for target in "$@"; do
    corpus=$build/corpus/$target
    mkdir -p "$corpus" "$build/found"
    echo "== $target"
    # The same options as `cargo bolero test` gives.
    BOLERO_LIBFUZZER_ARGS="$corpus -max_total_time=$seconds -artifact_prefix=$build/found/ -max_len=4096 -print_final_stats=1" \
        "$binary" "$target" --exact --nocapture >"$build/$target.log" 2>&1 || {
        tail -60 "$build/$target.log"
        echo "$target failed; the input is in $build/found"
        exit 1
    }
    grep -E "number_of_executed_units" "$build/$target.log" | sed 's/^/   /'
    grep -E "cov: " "$build/$target.log" | tail -n 1 | sed 's/^/   /'
done
