#!/usr/bin/env bash
# What `cfarm bench` says: statuses, words, and figures that agree with each other. No time is judged.
#   tests/cli/bench.sh BIN_DIR
set -u
bin=$(cd "$1" && pwd)
failed=0

# row STATUS REGEX ARGUMENTS...
row() {
    local status=$1 regex=$2 text got
    shift 2
    text=$(timeout -k 1 60 "$bin/cfarm" bench "$@" 2>&1 </dev/null)
    got=$?
    if [ "$got" != "$status" ] || ! grep -qE -- "$regex" <<<"$text"; then
        failed=1
        printf 'FAIL bench %s: status %s (wanted %s)\n  wanted: %s\n  got:    %s\n' "$*" "$got" "$status" "$regex" "$(head -n 5 <<<"$text")"
    fi
}

row 0 '^usage: cfarm bench' --help
row 1 'nowhere is neither a model.s folder nor a shape' nowhere
row 1 'side 65 is no multiple of 8' tiny --side 65
row 2 'did you mean|nearest|rounds' tiny --round 3
row 2 'stepp' tiny --parts stepp
row 2 'a merge is not measured here; bench_merge' tiny --parts '[step, merge]'
row 0 '^step +[0-9.]+ s +0\.03 GFLOP ' tiny --compute f32 --rounds 1 --parts step
row 0 'cpu\.conv2d' tiny --compute f32 --rounds 1 --parts forward --ops
row 0 '"parts":\[\{"part":"step",.*"part":"forward",.*"part":"text",.*"part":"vae",.*"resident_bytes":[1-9]' tiny --compute f32 --rounds 2 --json
"$bin/cfarm-worker" --bench --help | grep -q '^usage: cfarm bench' || { echo "FAIL cfarm-worker --bench"; failed=1; }
# Four samples: four times the arithmetic, exactly.
gflop() { "$bin/cfarm" bench tiny --compute f32 --rounds 1 --parts decode --json --side "$1" --batch "$2" | grep -oE '"forward_gflop":[0-9.e-]+' | cut -d: -f2; }
one=$(gflop 64 1) four=$(gflop 64 4)
awk -v a="$one" -v b="$four" 'BEGIN { exit !(a > 0 && b / a > 3.999999 && b / a < 4.000001) }' || { echo "FAIL four samples: $one and $four"; failed=1; }
[ $failed = 0 ] && echo "bench: all rows hold"
exit $failed
