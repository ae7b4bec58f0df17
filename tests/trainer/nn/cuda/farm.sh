#!/usr/bin/env bash
# A farm with `backend: cuda` over the stand-in: it learns what the CPU learns, a worker sees the GPU that is its own, a lost
# device, a missing one and a missing plugin are told in one sentence.
#   farm.sh BIN_DIR SOURCE_DIR PLUGIN
set -euo pipefail
bin=$1 src=$2 plugin=$3
work=$(mktemp -d /tmp/cfarm-cuda-XXXXXX)
trap 'rm -rf "$work"' EXIT
export CFARM_BACKOFF_MS=100
unset CUDA_VISIBLE_DEVICES STANDIN_CUDA CFARM_CUDA_PLUGIN

fail() { printf 'farm.sh: %s\n' "$*"; exit 1; }

# farm BACKEND [COMPUTE [TOP-LEVEL]]
farm() {
    cat >"$work/farm.yaml" <<Y
farm: f
base: $src/data/toyworld/model
backend: $1
${3:-}
defaults: {steps: 2, batch: 2, compute: ${2:-f32}, resolution: 32, class: mug}
concepts:
  - {name: one, token: <one>, images: $src/data/toyworld/subjects/mug}
  - {name: two, token: <two>, images: $src/data/toyworld/subjects/mug}
Y
}

# loss: of the last steps, by --train.
loss() { "$bin/cfarm-worker" --train "$work/farm.yaml" one "$work/one.h5" 2>/dev/null | sed -n 's/.*"last_loss":\([-0-9.e]*\).*/\1/p'; }
near() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { exit !(a > 0 && b > 0 && (a - b) ^ 2 <= (t * a) ^ 2) }'; }
says() { grep -q -- "$1" "$work/said" || { cat "$work/said"; fail "nothing says: $1"; }; }

farm cpu
cpu=$(loss)
export CFARM_CUDA_PLUGIN=$plugin
farm cuda
gpu=$(loss)
near "$cpu" "$gpu" 1e-4 || fail "loss $cpu on the CPU and $gpu on the device"
CFARM_CUDA_GRAPHS=0 loss >"$work/plain"
[ "$(cat "$work/plain")" = "$gpu" ] || fail "loss $gpu as a graph and $(cat "$work/plain") call by call"
farm cuda auto
half=$(loss)
near "$cpu" "$half" 5e-2 || fail "loss $cpu in f32 and $half in bf16"

# Both concepts in one pack, which shares the device's passes: each ends at the loss it has alone.
farm cuda
"$bin/cfarm-worker" --train-pack "$work/farm.yaml" "$work/packed" 2 >"$work/said" 2>&1 || { cat "$work/said"; fail 'no pack'; }
packed=$(sed -n 's/^concept one: .* and \([0-9.]*\) over the last$/\1/p' "$work/said")
near "$gpu" "${packed:-0}" 1e-4 || { cat "$work/said"; fail "loss $gpu alone and ${packed:-none} in a pack"; }
[ -f "$work/packed/two.h5" ] || fail 'the other is not there'

# Which GPUs are linked is told by the plugin (here pairs of them, and the last one to none) and comes to the farm with the node.
links() { [ "$(STANDIN_CUDA=$1 "$bin/cfarm-worker" --links)" = "$2" ] || fail "links of $1 are not $2"; }
links devices=4 '[0,0,0,0]'
links devices=1 '[0]'
links devices=6,links=2 '[0,0,1,1,2,3]'

# Two GPUs, two workers: each sees its own.
farm cuda
STANDIN_CUDA=devices=4,links=1 CUDA_VISIBLE_DEVICES=3,1 "$bin/cfarm" train "$work/farm.yaml" >"$work/said" 2>&1 || { cat "$work/said"; fail 'no farm'; }
says 'workers 2'
says 'done 2 of 2'
grep -q '"groups":2' "$work"/f/logs/events.jsonl || fail 'the farm does not know which GPUs are linked'
rm -rf "$work/f"

# Four workers on two: each may take half of a GPU's share, which is too little here.
farm cuda f32 'limits: {workers: 4, memory: 50%, retries: 1, gang_max: 1}'
STANDIN_CUDA=devices=2,memory=2000000 CUDA_VISIBLE_DEVICES=0,1 "$bin/cfarm" train "$work/farm.yaml" >"$work/said" 2>&1 && fail 'there was memory'
says 'MiB and .* are left for them, and no smaller ones fit'
rm -rf "$work/f"

# A device that fails takes its worker with it and is blamed, not the concept.
farm cuda f32 'limits: {retries: 1}'
while read -r fault sentence; do
    STANDIN_CUDA=fail=2000:$fault CUDA_VISIBLE_DEVICES=0 "$bin/cfarm" train "$work/farm.yaml" >"$work/said" 2>&1 && fail "it went on after $fault"
    says "$sentence"
    grep -q '"blame":"gpu"' "$work"/f/logs/events.jsonl || fail "the GPU is not blamed for $fault"
    rm -rf "$work/f"
done <<<'ecc uncorrectable ECC error
lost invalid device context'

# A driver that is too old, and a device that is full before a step has room, end a worker with one sentence each.
farm cuda
while read -r machine sentence; do
    STANDIN_CUDA=$machine "$bin/cfarm-worker" --train "$work/farm.yaml" one "$work/one.h5" >"$work/said" 2>&1 && fail "it trains with $machine"
    says "$sentence"
    [ "$(wc -l <"$work/said")" -le 2 ] || fail "more than a sentence for $machine: $(cat "$work/said")"
done <<<'driver=12040 the CUDA driver is for 12.4 and .* is needed; update the driver
devices=0 the CUDA driver shows no device; see CUDA_VISIBLE_DEVICES
memory=1000000 MiB are wanted and\|MiB and .* are left for them
fail=300:lost invalid device context'

CUDA_VISIBLE_DEVICES= "$bin/cfarm" train "$work/farm.yaml" >"$work/said" 2>&1 && fail 'a farm without a GPU'
says 'this machine shows no GPU'
rm -rf "$work/f"
CFARM_CUDA_PLUGIN=$work/none.so "$bin/cfarm-worker" --check "$work/farm.yaml" >"$work/said" 2>&1 && fail 'a farm without a plugin'
says 'backend: cuda: the CUDA backend does not load'
printf 'losses: %s on the CPU, %s on the device, %s in bf16\n' "$cpu" "$gpu" "$half"
