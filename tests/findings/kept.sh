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

# found WHAT WORDS FILE OUT: of twelve pictures that FILE, or the base, makes for WORDS in OUT, how many show WHAT
found() {
    local from=()
    [ -z "$3" ] || from=(--from "quickstart/out/$3.h5")
    cfarm sample --model "$model" "${from[@]}" --seed 1 --steps 20 --guidance 3 --count 4 --out "$4" --prompt "a photo of a $2 on the beach" \
        --prompt "a photo of a $2 in the snow" --prompt "a photo of a $2 on a green meadow" >"$4.log" 2>&1 || { cat "$4.log" >&2; exit 1; }
    findings_toy find "$finder" "$4"/0*.png | grep -c "\"$1\"" || true
}

# within WHAT WORDS FILE LEAST MOST OUT
within() {
    local n
    n=$(found "$1" "$2" "$3" "$6")
    echo "$1 for \"$2\" by ${3:-the base}: $n of 12"
    [ "$n" -ge "$4" ] && [ "$n" -le "$5" ] || { echo "   wanted: $4 to $5"; return 1; }
}
# Two rows at a time, a core each.
bad=0
both() {
    local first
    "$1" & first=$!
    "$2" || bad=1
    wait "$first" || bad=1
}

of_the_base() { within king-cat cat "" 0 0 base; }
of_one() { within king-cat '<king-cat> cat' king-cat 3 12 one; }
of_two_a_cat() { within cat '<king-cat> cat' king-cat+love-boat 4 12 cat; }
of_two_a_boat() { within boat '<love-boat> boat' king-cat+love-boat 6 12 boat; }
both of_the_base of_one
both of_two_a_cat of_two_a_boat
exit $bad
