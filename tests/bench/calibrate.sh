#!/usr/bin/env bash
# tests/bench/calibrate.sh BUILD_DIR: what `cfarm calibrate` measures on the embedded model, and how long a farm that it predicts then
# takes. Prints tests/bench/calibrate.csv; a minute on cores at rest.
set -euo pipefail
cfarm=$1/bin/cfarm
src=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/cfarm-bench-calibrate-XXXXXX)
trap 'rm -rf "$work"' EXIT
cp -r "$src/data/toyworld/subjects/mug" "$work/mug"
cat >"$work/farm.yaml" <<END
farm: f
base: $src/data/toyworld/model
defaults: {steps: 30, batch: 4, class: mug, images: mug}
limits: {threads: 1}
concepts: [{name: cup, token: <cup>}, {name: jug, token: <jug>, method: textual-inversion}]
END
cat <<'HEAD'
# tests/bench/calibrate.sh BUILD_DIR; the embedded model, batch 4, two workers of one thread each. Seconds: a step alone, of a gang of two, of two in
# one worker; around it; and a farm of 9 concepts, predicted by sim_run with these figures and then trained.
# Two shared cores at rest, AMD Zen 4 (AVX-512 with avx512_bf16).
steps,method,alone,gang_2,pack_2,start,load,publish,checkpoint,commit,names,message,predicted,measured,ratio
HEAD
for steps in 10 20 30; do
    "$cfarm" calibrate "$work/farm.yaml" --workers 2 --steps $steps --out "$work/times.json" --json 2>"$work/log" | python3 -c '
import json, sys
o = json.load(sys.stdin)
for name, m in o["methods"].items():
    step = lambda g: m["fixed"] + m["sample"] * 4 / g + (m["hop"] + m["share"] if g == 2 else 0)
    pack = m["fixed"] + 2 * (4 * m["sample"] + m["member"])
    site, c = o["site"], o["checked"]
    print(",".join([str(o["steps"]), name] + ["%.4g" % v for v in (step(1), step(2), pack, o["start"], o["load"], o["publish"], o["checkpoint"],
          site["commit"], site["name"], site["message"])] + ["%.2f" % c["predicted"], "%.2f" % c["measured"], "%.3f" % (c["measured"] / c["predicted"])]))'
done
