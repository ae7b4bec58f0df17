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
# Without words, which names what was renamed, and what only rounding decides: residuals afterwards, figures of the solve.
plain() {
    sed '1d; s/<new1> as //; s/<new[0-9]>//; s/ *[^ ]*$//; s/  */ /g; /condition of the target/d; /residual/d' "$1"
}
same() {
    merge "$@" -o whole.h5 >whole 2>/dev/null
    diff <(plain quick) <(plain whole) || fail "$* is something else"
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

merge five.h5 5.h5 --bos free -o other.h5 >/dev/null 2>err
grep -q 'anew.*first token' err || fail "another first token is solved without a word: $(cat err)"
merge five.h5 5.h5 --relax ridge -o other.h5 >/dev/null 2>err
grep -q 'anew.*ridge' err || fail "a ridge is solved without a word: $(cat err)"
merge five.h5 six.h5 --rename 'nobody:<a>=<b>' -o no.h5 >/dev/null 2>&1 && fail "a wish for nobody was granted"
[ ! -e no.h5 ] || fail "a refused merge left a file"
