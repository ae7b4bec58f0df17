#!/bin/sh
# cfarm-merge for tests: merge --out OUT --base=... FILE...: the files one after another; fails when told to.
[ "$1" = merge ] && [ "$2" = --out ] || { echo "what is $1?" >&2; exit 2; }
out=$3
shift 3
for a; do
    case $a in
    --fail=*) echo "told to fail" >&2; exit "${a#--fail=}" ;;
    --*) ;;
    *) cat "$a" >>"$out" || exit 1 ;;
    esac
done
