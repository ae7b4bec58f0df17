#!/bin/sh
# run_golden.sh GOLDEN_CHECK DIR [flags]: judges a directory of expected values; skips (77) where it is absent.
check=$1 dir=$2
shift 2
if [ ! -d "$dir" ]; then
    echo "skipped: $dir is not here"
    exit 77
fi
if ! grep -q avx512_bf16 /proc/cpuinfo; then
    case " $* " in *" --compute bf16 "*)
        echo "skipped: this processor has no products of bf16"
        exit 77
    esac
fi
exec "$check" "$dir" "$@"
