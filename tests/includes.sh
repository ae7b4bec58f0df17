#!/usr/bin/env bash
# The arrows between folders: refuses an include that runs up, and one that is not written from the repository's root.
#   tests/includes.sh [ROOT]        one line per wrong include; status 1 if there is any
#   tests/includes.sh --self-test   plants wrong includes and demands that each is found
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# What a folder may include of ours; the longest prefix counts. Tests may include everything.
rules='
cluster/base   cluster/base
cluster        cluster
configs        configs cluster
data           data configs cluster
trainer/nn     trainer/nn data cluster
trainer        trainer data configs cluster
merge          merge trainer data configs cluster
scheduler      scheduler configs cluster
tests          tests merge trainer scheduler data configs cluster
'
# What only some files may include of others: a wire or a device is chosen at the edge.
mpi='^(cluster/comm/comm_mpi\.[ch]|scheduler/.*|tests/.*)$'
cuda='^(trainer/nn/cuda/.*|cluster/comm/comm_nccl\.[ch]|cluster/node/.*|tests/.*)$'

check() {
    cd "$1"
    local folders=()
    for f in cluster configs data trainer merge scheduler tests; do [ ! -d "$f" ] || folders+=("$f"); done
    { [ ${#folders[@]} -eq 0 ] || grep -rnE --include='*.[ch]' --include='*.cu' --include='*.cuh' --include='*.def' \
        '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' "${folders[@]}" || true; } |
        awk -v rules="$rules" -v mpi="$mpi" -v cuda="$cuda" '
        function wrong(why) { print file ":" line ": " what ": " why; bad = 1 }
        BEGIN {
            n = split(rules, row, "\n")
            for (i = 1; i <= n; i++) {
                m = split(row[i], word, " ")
                for (j = 2; j <= m; j++) may[word[1]] = may[word[1]] " " word[j]
            }
        }
        {
            split($0, part, ":"); file = part[1]; line = part[2]
            match($0, /["<][^">]*[">]/); what = substr($0, RSTART, RLENGTH)
            name = substr(what, 2, length(what) - 2); ours = substr(what, 1, 1) == "\""
            top = name; sub(/\/.*/, "", top)
            if (!ours) {
                if ((top in may) && name ~ /\//) wrong("ours is written in quotes")
                if (name == "mpi.h" && file !~ mpi) wrong("only the wire over MPI and the scheduler know MPI")
                if (name ~ /^(cuda|cublas|cudnn|nccl)/ && file !~ cuda) wrong("only the CUDA backend knows CUDA")
                next
            }
            if (name ~ /^[a-z_]+\.inc$/) next # made by the build from a list beside the file
            if ((getline text < name) < 0) { wrong("not a path from the root of the repository"); next }
            close(name)
            folder = file
            while (sub(/\/[^\/]*$/, "", folder) && !(folder in may)) ;
            k = split(may[folder], allowed, " "); fine = 0
            for (i = 1; i <= k; i++) fine = fine || index(name, allowed[i] "/") == 1
            if (!fine) wrong(folder " may use" may[folder])
        }
        END { exit bad }'
}

self_test() {
    local found
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    mkdir -p "$dir"/{cluster/base,cluster/comm,configs,data,trainer/nn,merge,scheduler,tests}
    for f in cluster/base/err cluster/comm/comm configs/cfg data/batch trainer/nn/nn trainer/step merge/lsq scheduler/sched; do
        : >"$dir/$f.h"
    done
    # file, include, and "ok" where it runs down
    while read -r file include verdict; do
        printf '#include %s\n' "$include" >"$dir/$file"
        found=0
        (check "$dir" >/dev/null) || found=1
        rm "$dir/$file"
        [ "$found" = "$([ "$verdict" = ok ] && echo 0 || echo 1)" ] || {
            echo "self-test: $file with $include is $([ "$found" = 1 ] && echo refused || echo let through)"
            exit 1
        }
    done <<'ROWS'
merge/a.c "trainer/step.h" ok
merge/a.c "data/batch.h" ok
trainer/a.c "data/batch.h" ok
trainer/nn/a.c "cluster/base/err.h" ok
scheduler/a.c "configs/cfg.h" ok
tests/a.c "scheduler/sched.h" ok
configs/a.c <stdio.h> ok
cluster/comm/comm_mpi.c <mpi.h> ok
cluster/base/a.c "cluster/comm/comm.h" up
cluster/comm/a.c "configs/cfg.h" up
configs/a.c "data/batch.h" up
data/a.c "trainer/step.h" up
trainer/a.c "merge/lsq.h" up
trainer/a.c "scheduler/sched.h" up
trainer/nn/a.c "trainer/step.h" up
trainer/nn/a.cu "configs/cfg.h" up
scheduler/a.c "trainer/step.h" up
scheduler/a.c "data/batch.h" up
scheduler/a.c "merge/lsq.h" up
merge/a.c "scheduler/sched.h" up
trainer/step.c "step.h" relative
trainer/a.c "../data/batch.h" relative
trainer/a.c "trainer/none.h" missing
trainer/a.c <data/batch.h> angle
trainer/a.c <mpi.h> mpi
data/a.c <cuda_runtime.h> cuda
ROWS
    echo "self-test: every planted include was judged right"
}

case "${1:-}" in
--self-test) self_test ;;
*) check "${1:-$here/..}" ;;
esac
