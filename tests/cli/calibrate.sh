#!/usr/bin/env bash
# `cfarm calibrate`: figures are measured on a real small farm, kept, and read by `cfarm simulate` and `cfarm plan`; what it predicts with
# them is held to what the farm then took (loosely: this machine may have other work).
#   tests/cli/calibrate.sh BIN_DIR SOURCE_DIR
set -u
bin=$(cd "$1" && pwd) src=$(cd "$2" && pwd)
rows=$(cd "$(dirname "$0")" && pwd)/rows.sh
work=$(mktemp -d /tmp/cfarm-calibrate-test-XXXXXX)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export XDG_CACHE_HOME=$work/cache
cfarm=$bin/cfarm
ROW_S=150
. "$rows"

cp -r "$src/data/toyworld/subjects/mug" mug
cat >farm.yaml <<END
farm: f
base: $src/data/toyworld/model
limits: {time_limit: 10m}
defaults: {steps: 30, batch: 4, class: mug, images: mug}
concepts: [{name: cup, token: <cup>}, {name: jug, token: <jug>, method: textual-inversion}, {name: pot, token: <pot>}]
END
row 2 'usage: cfarm calibrate' "$cfarm" calibrate
row 2 'nothing is measured here; cfarm calibrate FARM.yaml does it' "$cfarm" simulate --machine here
row 0 'an assumption: nothing was done here yet' "$cfarm" plan farm.yaml
row 2 'no.yaml' "$cfarm" calibrate no.yaml
row 0 'a farm of 9 concepts on 2 workers: predicted [0-9.]+ s, measured [0-9.]+ s' "$cfarm" calibrate farm.yaml --workers 2 --steps 12
row 0 '' test -s cache/conceptfarm/times.json
row 2 'cannot access' ls -d .cfarm-calibrate-*  # it was beside the farm file, and gone
cat >look.py <<'END'
import json
o = json.load(open("cache/conceptfarm/times.json"))
assert set(o["methods"]) == {"custom-diffusion", "textual-inversion"}, o["methods"]
for m in o["methods"].values():
    assert m["fixed"] + 4 * m["sample"] > 0 and all(v >= 0 for v in m.values()), m
assert o["start"] > 0 and o["load"] > 0 and o["publish"] > 0
assert 0 < o["site"]["commit"] < 5 and 0 < o["site"]["name"] < 5 and 0 < o["site"]["message"] < 5
c = o["checked"]
assert c["concepts"] == 9 and c["predicted"] > 0 and c["measured"] > 0
print("a wild prediction" if not 0.1 < c["measured"] / c["predicted"] < 10 else "fine", c)
END
row 0 'fine' python3 look.py
row 0 'workers on .* cores\), seed 1' "$cfarm" simulate --machine here --mix custom-diffusion:1,textual-inversion:1 --gpus 4 --concepts 20
row 0 'as cfarm calibrate measured' "$cfarm" plan farm.yaml
sed -i "s|\"base\": .*|\"base\": \"elsewhere\",|" cache/conceptfarm/times.json
row 0 'an assumption: nothing was done here yet' "$cfarm" plan farm.yaml
echo '{' >cache/conceptfarm/times.json
row 2 'times.json' "$cfarm" plan farm.yaml
row 2 'times.json' "$cfarm" simulate --machine here
rows_end calibrate
