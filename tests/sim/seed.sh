#!/usr/bin/env bash
# A seed is a world, whatever was simulated before it: worlds one after the other in a process are those of a process each. So a failure
# that comes after thousands of worlds is there again with its seed alone, in a moment.
#   tests/sim/seed.sh SIM
set -u
worlds() { "$1" --first "$2" --count "$3" --minutes 20 $4 --csv | sed -n 2p | cut -d, -f5-; }
failed=0
for how in "" --long; do
    together=$(worlds "$1" 11 6 "$how")
    apart=$(for seed in 11 12 13 14 15 16; do worlds "$1" $seed 1 "$how"; done |
        awk -F, '{ for (i = 2; i <= NF; i++) sum[i] += $i } END { for (i = 2; i <= NF; i++) printf ",%d", sum[i] }')
    # The first column is rounded minutes.
    if [ "${together#*,}" != "${apart#,}" ] || [ -z "$together" ]; then
        echo "FAIL six worlds $how together: ${together#*,}; apart: ${apart#,}"
        failed=1
    fi
done
exit $failed
