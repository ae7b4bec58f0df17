#!/usr/bin/env bash
# The main job on real photographs and a tiny random model, both from ../shared (skipped where that is absent): two concepts
# under mpirun, merged, sampled. Prints the mean loss over 64 fixed draws of picture, timestep and noise, before and after.
#   tests/cli/real_input.sh BIN_DIR SOURCE_DIR [FOLDER]      FOLDER keeps the results
set -euo pipefail
bin=$(cd "$1" && pwd)
shared=$(cd "$2" && pwd)/../shared
out=${3:-$(mktemp -d /tmp/cfarm-real-XXXXXX)}
[ -n "${3:-}" ] || trap 'rm -rf "$out"' EXIT
[ -d "$shared/data/subjects" ] || { echo "skipped: no photographs in ../shared/data/subjects"; exit 77; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
PATH=$bin:$PATH
model=$(cd "$shared/golden/tiny/model" && pwd)
subjects=$(cd "$shared/data/subjects" && pwd)

# The tiny vocabulary knows neither class as one word, so where the new words begin is said.
cat >"$out/farm.yaml" <<EOF
farm: real
base: $model
defaults: {steps: 150, batch: 4, lr: 2.0e-3, probe: 64, resolution: 64}
concepts:
  - {name: cat, class: cat, token: <cat1>, initializer: happy, images: $subjects/cat, regularisation: {images: $subjects/dog6}}
  - {name: clock, class: clock, token: <clock1>, initializer: photo, images: $subjects/clock, regularisation: {images: $subjects/vase}}
merge:
  - {name: cat+clock, of: [cat, clock]}
EOF
cfarm plan "$out/farm.yaml"
mpirun -np 2 cfarm train "$out/farm.yaml" </dev/null 2>"$out/train.log" || { cat "$out/train.log"; exit 1; }
cfarm inspect "$out/real/out/cat+clock.h5" >"$out/merged.txt"
grep -A16 certificate "$out/merged.txt"
grep -q 'every concept says what it said alone' "$out/merged.txt"
cfarm sample --model "$model" --from "$out/real/out/cat+clock.h5" --steps 10 --count 2 --seed 1 --out "$out/pictures" --grid \
    --prompt "photo of a <cat1> cat" --prompt "a <clock1> clock beside a <cat1> cat" 2>/dev/null
[ -s "$out/pictures/grid.png" ]
lines=$(grep -h 'fixed draws' "$out/real/logs/events.jsonl" "$out/train.log" | grep -o 'concept [a-z]*: .*after' | sort -u)
echo "$lines"
[ "$(wc -l <<<"$lines")" = 2 ]
while read -r before after; do
    awk -v b="$before" -v a="$after" 'BEGIN { exit !(a < b) }' || { echo "the loss did not fall: $before to $after"; exit 1; }
done <<<"$(sed -E 's/.*fixed draws ([0-9.]+) before and ([0-9.]+) after.*/\1 \2/' <<<"$lines")"
again=$(cfarm train "$out/farm.yaml" 2>&1)
grep -q 'nothing to do' <<<"$again" && echo "$again"
