#!/usr/bin/env bash
# `cfarm eval` as a person runs it: pictures of a folder measured by a DINO, and what is said of flags that make no sense.
#   tests/cli/eval.sh BIN_DIR SOURCE_DIR
set -u
bin=$(cd "$1" && pwd)
source=$(cd "$2" && pwd)
rows=$(cd "$(dirname "$0")" && pwd)/rows.sh
work=$(mktemp -d /tmp/cfarm-eval-XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
ROW_S=100
. "$rows"
cfarm=$bin/cfarm
mug=$source/data/toyworld/subjects/mug
"$bin/judge_make" dino "$source/tests/trainer/eval/golden/dino_hf" || exit 1

row 0 'usage: cfarm-eval COMMAND' "$bin/cfarm-eval" --help
row 2 'no command evla' "$bin/cfarm-eval" evla
row 0 'the scaling of text alignment' "$cfarm" eval --help
row 2 'nothing to measure with' "$cfarm" eval --pictures "$mug"
row 2 'did you mean dino|--dino' "$cfarm" eval --pictures "$mug" --dion dino
row 2 'rex is not a flag' "$cfarm" eval rex
row 2 'nowhere.yaml' "$cfarm" eval --protocol nowhere.yaml
row 1 'nowhere' "$cfarm" eval --pictures nowhere --real "$mug" --dino dino --out no
row 0 'measured by DINO ViT' "$cfarm" eval --pictures "$mug" --real "$mug" --dino dino --out out
row 0 '^dino,"cosine",0\.[0-9]+,' cat out/scores.csv
row 0 '"dino cosine": 0\.' cat out/scores.json
row 0 'data:image/png;base64' cat out/index.html
row 1 '' grep -qE 'https?:|src="[^d]' out/index.html
row 0 '^6$' sh -c 'wc -l <out/pictures.csv'

# reg: an index, what is near in it, and a concept whose class pictures come out of it.
toy=$source/data/toyworld
for k in 01 02 03 04 05 06 07 08 09 10 11 12; do echo "$toy/regularisation/mug/$k.png"; done |
    paste - "$toy/regularisation/mug/captions.txt" >list.tsv
farm='steps: 1, batch: 2, images: "%s", class: mug'
printf "farm: f\nbase: %s\ndefaults: {$farm}\nconcepts:\n - {name: a, token: <a>, regularisation: {index: mugs.index, count: 5, similarity: 0.3}}\n" \
    "$toy/model" "$mug" >f.yaml
sed 's/farm: f/farm: g/; s/0.3/0.999/' f.yaml >g.yaml
row 0 'captions 12 encoded 12' "$cfarm" reg index list.tsv -o mugs.index --model "$toy/model"
row 0 'captions 12 encoded 0 kept 12' "$cfarm" reg index list.tsv -o mugs.index --model "$toy/model"
row 0 'mugs.index: 12 captioned pictures' "$cfarm" reg show mugs.index --check
row 0 'the farthest of 3 is at' "$cfarm" reg find mugs.index --caption 'photo of a mug' --similarity 0.3 --count 3 --model "$toy/model"
row 1 'lower similarity, set count' "$cfarm" reg find mugs.index --caption 'photo of a mug' --similarity 0.3 --count 99 --model "$toy/model"
row 2 'did you mean index' "$cfarm" reg idnex
row 0 'regularisation of mug: 12 of 12 captions are as near as 0.3, the farthest of 5' "$cfarm" train f.yaml --workers 1
row 1 'lower similarity, add pictures, or use generate: 5' "$cfarm" train g.yaml --workers 1

# init: what it writes is a farm file.
row 0 'written .*concepts 2' "$cfarm" init "$toy/subjects" -o made.yaml --base "$toy/model"
row 0 'farm subjects in .*: 2 concepts, 2 to train' "$cfarm" plan made.yaml
row 1 'made.yaml is there already' "$cfarm" init "$toy/subjects" -o made.yaml
row 1 'no .jpg, .jpeg, .png or .webp in it' "$cfarm" init "$toy/model" -o other.yaml
row 2 'it goes: cfarm init FOLDER' "$cfarm" init

rows_end eval
