#!/usr/bin/env bash
# The first and the fourth of the paper's findings on what the quickstart makes: a word that was taught calls its subject, which the base
# never draws for its class; and in the merge of two each word calls a thing of its class. Told by the finder; findings.csv has all.
#   tests/findings/kept.sh BIN_DIR SOURCE_DIR
set -euo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
work=$(mktemp -d /tmp/cfarm-kept-XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work"
PATH=$bin:$PATH
model=$src/data/toyworld/world/model finder=$src/tests/findings/finder.safetensors

sed "s#\.\./data/#$src/data/#" "$src/configs/quickstart.yaml" >farm.yaml
mpirun -np 2 cfarm train farm.yaml </dev/null >log 2>&1 || { tail -n 20 log; exit 1; }

# found WHAT WORDS [FILE]: of twelve pictures that FILE, or the base, makes for WORDS, how many show WHAT
found() {
    local from=()
    [ -z "${3-}" ] || from=(--from "quickstart/out/$3.h5")
    rm -rf seen
    cfarm sample --model "$model" "${from[@]}" --seed 1 --steps 20 --guidance 3 --count 4 --out seen --prompt "a photo of a $2 on the beach" \
        --prompt "a photo of a $2 in the snow" --prompt "a photo of a $2 on a green meadow" >sample.log 2>&1 || { cat sample.log >&2; exit 1; }
    findings_toy find "$finder" seen/0*.png | grep -c "\"$1\"" || true
}

bad=0
# within WHAT WORDS FILE LEAST MOST
within() {
    local n
    n=$(found "$1" "$2" "$3")
    echo "$1 for \"$2\" by ${3:-the base}: $n of 12"
    [ "$n" -ge "$4" ] && [ "$n" -le "$5" ] || { echo "   wanted: $4 to $5"; bad=1; }
}

within king-cat cat "" 0 0
within king-cat '<king-cat> cat' king-cat 1 12
within cat '<king-cat> cat' king-cat+love-boat 4 12
within boat '<love-boat> boat' king-cat+love-boat 6 12
exit $bad
