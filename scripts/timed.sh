#!/usr/bin/env bash
# Makes each target named, stops at the first that fails, and ends with a line that says where the time went.
#
#     scripts/timed.sh TITLE TARGET...
set -uo pipefail

title=$1; shift
summary= status=0
started=$(date +%s)
for target in "$@"; do
    before=$(date +%s)
    printf '\n== %s\n' "$target"
    "${MAKE:-make}" --no-print-directory "$target" || status=$?
    summary+=" · $target $(($(date +%s) - before)) s"
    [ "$status" = 0 ] || { summary+=" (FAILED)"; break; }
done
printf '\n%s: %d s in all%s\n' "$title" $(($(date +%s) - started)) "$summary"
exit "$status"
