#!/usr/bin/env bash
# Laws of gpu_all's sanitizer runs: a missing compute-sanitizer is a row that says so and no failure; one that is there is called for
# memcheck and racecheck of both programs, and what it finds is a failure.
#
#   sanitize.sh GPU_ALL
set -euo pipefail
gpu_all=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() { echo "sanitize.sh: $*"; exit 1; }

dry() { PARTS=sanitize SANITIZER=$1 OUT=$dir/out "$gpu_all" dry /some/bin; }

tool() { # tool STATUS: a compute-sanitizer that notes its arguments and ends in STATUS
    printf '#!/bin/sh\necho "$*" >>%s\nexit %s\n' "$dir/calls" "$1" >"$dir/tool"
    chmod +x "$dir/tool"
    : >"$dir/calls"
}

table=$(dry "$dir/none") || fail "a missing tool is a failure: $table"
[ "$(grep -c 'not run: .*/none is not here' <<<"$table")" = 4 ] || fail "a missing tool is not told: $table"

tool 0
dry "$dir/tool" >/dev/null || fail "a clean run is a failure"
for what in memcheck racecheck; do
    for program in test_flash test_every_kernel; do
        grep -qx -- "--tool $what --error-exitcode 9 /some/bin/$program cuda" "$dir/calls" || fail "no $what of $program: $(cat "$dir/calls")"
    done
done

tool 9
! table=$(dry "$dir/tool") || fail "what it finds is no failure: $table"
grep -q 'racecheck test_flash .*FAILED (9)' <<<"$table" || fail "what it finds is not told: $table"
