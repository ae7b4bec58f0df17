#!/usr/bin/env bash
# tests/bench/calibrate.sh BUILD_DIR: small farms of the embedded model as `cfarm calibrate` predicts them from what it has measured, and
# as they then were. Prints tests/bench/calibrate.csv; about a minute and a half at rest.
set -euo pipefail
cfarm=$(cd "$1" && pwd)/bin/cfarm
src=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/cfarm-calibrate-bench-XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work"
export XDG_CACHE_HOME=$work/cache
cp -r "$src/data/toyworld/subjects/mug" mug

row() {
    local workers=$1 batch=$2 steps=$3 method list=
    shift 3
    for method in "$@"; do list+="{name: $method, token: <$method>, method: $method}, "; done
    printf 'farm: f\nbase: %s\nlimits: {threads: 1}\ndefaults: {batch: %s, class: mug, images: mug}\nconcepts: [%s]\n' \
        "$src/data/toyworld/model" "$batch" "${list%, }" >farm.yaml
    "$cfarm" calibrate farm.yaml --workers "$workers" --steps "$steps" --json 2>said >out.json || { cat said >&2; return 1; }
    python3 - "$*" "$workers" "$batch" "$steps" <<'END'
import json, sys
methods, workers, batch, steps = sys.argv[1:]
o = json.load(open("out.json"))
c = o["checked"]
m = [x["fixed"] + int(batch) * x["sample"] for x in o["methods"].values()]
print("%s,%s,%s,%s,%d,%.4f,%.3f,%.3f,%.3f,%.2f,%.2f,%.3f" % (methods.replace(" ", "+"), workers, batch, steps, c["concepts"],
      sum(m) / len(m), o["start"], o["load"], o["publish"], c["predicted"], c["measured"], c["measured"] / c["predicted"]))
END
}

cat <<'HEAD'
# tests/bench/calibrate.sh BUILD_DIR, on the embedded model; workers of one thread. step_s: with the batch, alone on a slot, all slots at work.
# ratio: measured over predicted.
methods,workers,batch,steps,concepts,step_s,start_s,load_s,publish_s,predicted_s,measured_s,ratio
HEAD
row 1 4 12 custom-diffusion
row 2 4 12 custom-diffusion
row 2 8 12 custom-diffusion
row 2 4 12 custom-diffusion lora
row 2 4 12 custom-diffusion textual-inversion
row 2 4 40 custom-diffusion
