#!/usr/bin/env bash
# Which rows a merge holds a concept to can be chosen, at the merge as at the import, and the certificate names those that two
# concepts share. On the embedded model.  Usage: held.sh BIN SOURCE
set -euo pipefail
bin=$(cd "$1" && pwd) source=$(cd "$2" && pwd)
toy=$source/data/toyworld
model=$toy/model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache PATH=$bin:$PATH
cd "$work"

fail() { echo "held.sh: $*" >&2; exit 1; }
merge() { "$bin/cfarm-merge" merge "$@" --accept-drift --factors-only 2>err; }
# The rows that concept $1 has of its own and shares, as the certificate in "told" has them.
rows() { awk -v who="$1.h5" '$1 == who { print $(NF - 3), $(NF - 2) }' told; }

cat >farm.yaml <<EOF
farm: farm
base: $model
defaults: {steps: 2, batch: 2, lr: 1.0e-3, resolution: 64}
concepts:
  - {name: mug, class: mug, images: $toy/subjects/mug, token: <mug>,
     regularisation: {images: $toy/regularisation/mug, captions: $toy/regularisation/mug/captions.txt}}
  - {name: creature, class: creature, images: $toy/subjects/creature, token: <creature>,
     regularisation: {images: $toy/regularisation/creature, captions: $toy/regularisation/creature/captions.txt}}
merge:
  - {name: theirs, of: [mug, creature], rows: authors, factors-only: true, accept-drift: true}
EOF
cfarm train farm.yaml </dev/null >log 2>&1 || fail "no training: $(tail -5 log)"
cd farm/out

merge mug.h5 creature.h5 -o released.h5 >told || fail "no merge: $(cat err)"
read -r own shared <<<"$(rows mug)"
[ "$shared" = 0 ] && [ "$(rows creature | cut -d' ' -f2)" = 0 ] || fail "concepts with words of their own share rows: $(cat told)"
grep -q 'nearest to the others: .* % of .* is its own' told || fail "no row is told to be nearest: $(cat told)"

# The published program's later rows: "a", "photo" and "of" besides, which are the same for all; the first one's stand.
merge mug.h5 creature.h5 -o authors.h5 --rows authors --base "$model" >told || fail "no authors' rows: $(cat err)"
[ "$(rows mug)" = "$((own + 3)) 0" ] || fail "$(rows mug) rows of the authors' where $own are the released"
[ "$(rows creature | cut -d' ' -f2)" = 3 ] || fail "the second concept shares $(rows creature) rows"
[ "$(grep -c '^  shared: "a photo of <creature> creature" at token [123] of creature.h5, kept as mug.h5 has it' told)" = 3 ] ||
    fail "shared rows are not named: $(cat told)"
cmp authors.h5 theirs.h5 || fail "the farm's merge by the authors' rows is another"

# One prompt instead of two (in a list, for alone {} is a map), and another class word.
merge mug.h5 creature.h5 -o one.h5 --template '["{}"]' --class mug=creature --base "$model" >told || fail "no template: $(cat err)"
"$bin/cfarm-merge" inspect one.h5 >/dev/null
grep -aq '"<mug> creature" at its end' one.h5 || fail "another class word is not held"
grep -aq 'photo of a' one.h5 && fail "prompts of the recipe are held beside a template"

# What is chosen at the import is what is chosen at the merge.
"$bin/cfarm-merge" export mug.h5 -o x --base "$model" >/dev/null 2>&1
mkdir early late
"$bin/cfarm-merge" import x --base "$model" --class mug --rows authors -o early/x.h5 2>/dev/null
"$bin/cfarm-merge" import x --base "$model" --class mug -o late/x.h5 2>/dev/null
merge early/x.h5 -o early.h5 >/dev/null
merge late/x.h5 -o late.h5 --rows authors --base "$model" >/dev/null
"$bin/cfarm-merge" diff early.h5 late.h5 >told || fail "rows chosen at the import are others: $(tail -3 told)"

refused() {
    local says=$1
    shift
    merge "$@" -o no.h5 >/dev/null && fail "$* was merged"
    grep -q -- "$says" err || fail "$* is refused without \"$says\": $(cat err)"
    [ ! -e no.h5 ] || fail "a refused merge left a file"
}
refused 'one {} is wanted' mug.h5 --template 'a mug'
refused 'so does --rows' mug.h5 --template '["{}"]' --rows authors
refused 'not exactly one concept has that name' mug.h5 --class nobody=dog
refused 'keeps no matrices' released.h5 --rows authors --base "$model"
