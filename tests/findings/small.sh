#!/usr/bin/env bash
# The findings program on a model of random weights and next to no training: it goes through every variant to a whole table, goes on
# where it was killed, makes nothing twice, and refuses a folder of other settings. What the numbers are does not matter here.
#   tests/findings/small.sh BIN_DIR SOURCE_DIR
set -euo pipefail
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
work=$(mktemp -d /tmp/cfarm-findings-XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work"
bad=0
wrong() { echo "FAIL $1"; bad=1; }
program=(python3 "$src/tests/findings/findings.py" runs --bin "$bin" --model model --subjects 2 --pairs 1 --seeds 1 --steps 2 --batch 2
    --count 1 --sampling-steps 1 --generate 2 --finder-steps 4 --out table.csv)
run() { "${program[@]}" "$@" </dev/null; }
made() { find runs -name '*.png' -newer "$1" -path '*/seen/*' | wc -l; }

"$bin/scratch" model state begin

# Killed when the first few measurements are there; what it started dies with its pipe or ends by itself.
"${program[@]}" >first 2>&1 </dev/null &
pid=$!
for _ in $(seq 3000); do [ "$(find runs/seen -name found.json 2>/dev/null | wc -l)" -ge 3 ] && break; kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
kill -9 "$pid" 2>/dev/null || wrong "it had ended: $(tail -n 3 first)"
wait "$pid" 2>/dev/null || true
[ ! -e table.csv ] || wrong 'a table before all was measured'
kept=$(find runs/seen -name found.json | sort)
stat -c '%n %Y' $kept >before

run >second 2>&1 || { tail -n 20 second; exit 1; }
stat -c '%n %Y' $kept | cmp -s - before || wrong 'what was measured was measured again'
grep -q '^finding,what,measure,mean,deviation,of,wanted,holds$' table.csv || wrong 'no head of the table'
for v in base custom generated no-reg augment no-token fine-tune-all diffusers 'base, pairs' merged joint added sequential \
    'custom - base' 'custom / base' 'no-reg - custom' 'merged / joint' 'merged - added' 'merged - sequential' 'custom - diffusers'; do
    grep -qE "^[1-6],\"?$v\"?," table.csv || wrong "no row of $v"
done
[ "$(grep -c '^4,.*,both but for marks,' table.csv)" = 8 ] || wrong 'the examiner tells nothing of pairs'
grep -qE ',(nan|inf)' <(grep -v ' / ' table.csv) && wrong 'numbers that are none'
[ "$(grep -cE ',(yes|no)$' table.csv)" -ge 14 ] || wrong 'comparisons without a verdict'

touch now
cp table.csv kept.csv
run >third 2>&1 || { tail -n 20 third; exit 1; }
cmp -s table.csv kept.csv || wrong 'a third run tells other numbers'
[ "$(made now)" = 0 ] || wrong 'a third run makes pictures'
if run --steps 3 >said 2>&1; then wrong 'other settings in the same folder'; fi
grep -q 'other settings (steps); give another folder' said || wrong "said: $(cat said)"
if run --subjects 1 >said 2>&1; then wrong 'a pair of one subject'; fi
grep -q '1 pairs of 1 subjects' said || wrong "said: $(cat said)"
[ "$bad" = 0 ] && echo 'the findings go through'
exit "$bad"
