#!/bin/sh
# on_gpu.sh CFARM_WORKER COMMAND...: runs it where a GPU can be had, else skips (77) with the sentence why not.
worker=$1
shift
if ! why=$("$worker" --links 2>&1); then
    echo "skipped: $why"
    exit 77
fi
exec "$@"
