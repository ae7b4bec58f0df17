#!/usr/bin/env bash
# A merged file with one concept more, less, or weighed otherwise tells what a merge of the very files tells, without a solve;
# and where that cannot be, it says why.  Usage: again.sh BIN
set -euo pipefail
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "again: $*" >&2
    exit 1
}

"$bin/bench_merge" --files . 6 2>/dev/null
merge() {
    "$bin/cfarm-merge" merge "$@" --features features.h5 --factors-only
}
small() {
    merge "$@" >quick 2>err
    ! grep -q anew err || fail "$* was solved anew: $(cat err)"
}
# Without words, which names what was renamed, what only rounding decides (residuals afterwards, figures of the solve), and
# drifts, which are told about.
plain() {
    sed '1d; s/<new1> as //; s/<new[0-9]>//; s/ *[^ ]*$//; s/  */ /g; /condition of the target/d; /residual/d; /drift/d; /give/d; /nearest/d' "$1"
}
# The drift is what it says it is, four times give or take.
near() {
    awk '/drift on the captions/ {d[FILENAME] = $5} /give or take/ {take = $4}
         END {off = d["quick"] - d["whole"]; exit !(d["whole"] > 0 && off * off <= 16 * take * take)}' quick whole
}
same() {
    merge "$@" -o whole.h5 >whole 2>/dev/null
    diff <(plain quick) <(plain whole) || fail "$* is something else"
    near || fail "$* drifts otherwise: $(grep -h -e drift -e give quick whole)"
}

merge {0,1,2,3,4}.h5 -o five.h5 >/dev/null 2>&1
small five.h5 5.h5 -o six.h5
same {0,1,2,3,4,5}.h5
small six.h5 --remove 5 -o five-again.h5
same {0,1,2,3,4}.h5
small six.h5 --weight 2=0.5 --remove 4.h5 -o weighed.h5
same {0,1,2,3,5}.h5 --weight 2=0.5
small weighed.h5 --weight 2=1 -o back.h5
same {0,1,2,3,5}.h5

# In place: the file grows by what comes and its readers never see a part; elsewhere the old one stays.
cp six.h5 place.h5
before=$(stat -c '%i %s' place.h5)
small place.h5 --remove 5 -o place.h5
read -r inode size <<<"$before"
read -r inode_now size_now <<<"$(stat -c '%i %s' place.h5)"
[ "$inode" = "$inode_now" ] || fail "a change in place made another file"
((size_now - size < size)) || fail "a change in place wrote $((size_now - size)) bytes behind $size"
"$bin/cfarm-merge" diff place.h5 five-again.h5 >/dev/null || fail "a change in place is something else than one elsewhere"
for _ in 1 2 3 4 5 6; do
    small place.h5 5.h5 -o place.h5
    small place.h5 --remove 5 -o place.h5
done
((4 * $(stat -c %s six.h5) > $(stat -c %s place.h5))) || fail "changes behind each other are kept for ever"

merge five.h5 5.h5 --bos free -o other.h5 >/dev/null 2>err
grep -q 'anew.*first token' err || fail "another first token is solved without a word: $(cat err)"
merge five.h5 5.h5 --relax ridge -o other.h5 >/dev/null 2>err
grep -q 'anew.*ridge' err || fail "a ridge is solved without a word: $(cat err)"
merge five.h5 six.h5 --rename 'nobody:<a>=<b>' -o no.h5 >/dev/null 2>&1 && fail "a wish for nobody was granted"
[ ! -e no.h5 ] || fail "a refused merge left a file"
