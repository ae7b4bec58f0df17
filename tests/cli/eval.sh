#!/usr/bin/env bash
# `cfarm eval` as a person runs it: pictures of a folder measured by a DINO, and what is said of flags that make no sense.
#   tests/cli/eval.sh BIN_DIR SOURCE_DIR
set -u
bin=$(cd "$1" && pwd)
source=$(cd "$2" && pwd)
work=$(mktemp -d /tmp/cfarm-eval-XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0 failed=0

# row STATUS REGEX COMMAND...
row() {
    local status=$1 regex=$2 text got
    shift 2
    text=$(timeout -k 1 100 "$@" 2>&1 </dev/null)
    got=$?
    if [ "$got" = "$status" ] && grep -qE -- "$regex" <<<"$text"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAIL %s: status %s (wanted %s)\n  wanted: %s\n  got:    %s\n' "$*" "$got" "$status" "$regex" "$(head -n 5 <<<"$text")"
    fi
}

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

printf '%d rows right, %d wrong\n' "$passed" "$failed"
[ "$failed" = 0 ]
