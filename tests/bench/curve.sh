#!/usr/bin/env bash
# Whether bf16 learns as f32 does: a concept of the toy world, 250 steps, three seeds in both; a CSV on stdout
# (tests/bench/curve.csv is one). Losses are means over the first and the last tenth of the steps, probes over 64 fixed draws.
#   tests/bench/curve.sh CFARM_WORKER SOURCE_DIR
set -euo pipefail
worker=$1 source=$(cd "$2" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export OMP_WAIT_POLICY=passive
value() { sed -nE "s/.*\"$1\": ?([0-9.e-]+).*/\1/p"; }
echo "seed,compute,first_loss,last_loss,probe_before,probe_after"
for seed in 1 2 3; do
    for compute in f32 bf16; do
        cat >"$tmp/farm.yaml" <<EOF
farm: curve
base: $source/data/toyworld/model
defaults: {steps: 250, batch: 8, lr: 1.0e-3, seed: $seed, probe: 64, compute: $compute}
concepts:
  - name: mug
    class: mug
    images: $source/data/toyworld/subjects/mug
    token: <mug>
    regularisation:
      images: $source/data/toyworld/regularisation/mug
      captions: $source/data/toyworld/regularisation/mug/captions.txt
EOF
        said=$("$worker" --train "$tmp/farm.yaml" mug "$tmp/mug.h5" 2>/dev/null)
        echo "$seed,$compute,$(value first_loss <<<"$said"),$(value last_loss <<<"$said"),$(value probe_before <<<"$said"),$(value probe_after <<<"$said")"
    done
done
