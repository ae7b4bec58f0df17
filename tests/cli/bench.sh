#!/usr/bin/env bash
# What `cfarm bench` says: statuses, words, and figures that agree with each other. No time is judged.
#   tests/cli/bench.sh BIN_DIR
set -u
bin=$(cd "$1" && pwd)
. "$(dirname "$0")/rows.sh"
bench="$bin/cfarm bench"

row 0 '^usage: cfarm bench' $bench --help
row 1 'nowhere is neither a model.s folder nor a shape' $bench nowhere
row 1 'side 65 is no multiple of 8' $bench tiny --side 65
row 2 'did you mean|nearest|rounds' $bench tiny --round 3
row 2 'stepp' $bench tiny --parts stepp
row 2 'a merge is not measured here; bench_merge' $bench tiny --parts '[step, merge]'
row 0 '^step +[0-9.]+ s +0\.03 GFLOP ' $bench tiny --compute f32 --rounds 1 --parts step
row 0 'cpu\.conv2d' $bench tiny --compute f32 --rounds 1 --parts forward --ops
row 0 '"parts":\[\{"part":"step",.*"part":"forward",.*"part":"text",.*"part":"vae",.*"resident_bytes":[1-9]' $bench tiny --compute f32 --rounds 2 --json
row 0 '^usage: cfarm bench' "$bin/cfarm-worker" --bench --help
row 0 '^step +[0-9.]+ s +0\.10 GFLOP ' $bench tiny --compute f32 --rounds 1 --parts step --packed 3
# What a gang of Stable Diffusion 1.5 tells each other: keys, values and a row.
row 0 '^a gang adds up 38\.340 MB a step in bf16' $bench sd15 --parts bytes
row 2 'bytes is a CSV table of its own' $bench tiny --parts '[bytes, step]'
row 2 'bytes is a CSV table of its own' $bench tiny --parts bytes --json
# Four samples: four times the arithmetic, exactly.
gflop() { "$bin/cfarm" bench tiny --compute f32 --rounds 1 --parts decode --json --side "$1" --batch "$2" | grep -oE '"forward_gflop":[0-9.e-]+' | cut -d: -f2; }
one=$(gflop 64 1) four=$(gflop 64 4)
row 0 '' awk -v a="$one" -v b="$four" 'BEGIN { exit !(a > 0 && b / a > 3.999999 && b / a < 4.000001) }'
rows_end bench
