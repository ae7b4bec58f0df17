#!/usr/bin/env bash
# A farm whose base is one file, in either keys, makes what the farm on the model's folder makes: planned, trained, merged and
# exported, on the embedded model.  Usage: one_file.sh BIN SOURCE
set -euo pipefail
bin=$(cd "$1" && pwd) source=$(cd "$2" && pwd)
toy=$source/data/toyworld
model=$toy/model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache PATH=$bin:$PATH
cd "$work"
merge=$bin/cfarm-merge

fail() { echo "one_file.sh: $*" >&2; exit 1; }

# Plans, trains and merges under the name $1 on the base $2.
farm() {
    cat >"$1.yaml" <<EOF
farm: $1
base: $2
defaults: {steps: 2, batch: 2, lr: 1.0e-3, resolution: 64}
concepts:
  - {name: mug, class: mug, images: $toy/subjects/mug, token: <mug>,
     regularisation: {images: $toy/regularisation/mug, captions: $toy/regularisation/mug/captions.txt}}
  - {name: creature, class: creature, images: $toy/subjects/creature, token: <creature>,
     regularisation: {images: $toy/regularisation/creature, captions: $toy/regularisation/creature/captions.txt}}
merge:
  - {name: both, of: [mug, creature]}
EOF
    cfarm plan "$1.yaml" >"$1.plan" 2>&1 || fail "no plan for $2: $(tail -3 "$1.plan")"
    cfarm train "$1.yaml" </dev/null >"$1.log" 2>&1 || fail "no training on $2: $(tail -5 "$1.log")"
    for name in mug creature both; do
        [ -s "$1/out/$name.h5" ] || fail "$2 made no $name.h5: $(tail -5 "$1.log")"
    done
}
# The same weights and words: settings name the base by its path.
same() {
    "$merge" diff "$@" >told 2>/dev/null || true
    grep -q -e '^0 of [0-9]* tensors differ' -e '^the same contents' told && ! grep -q -e '^  token' -e '^  recipe' -e '^  verdict' told
}
fingerprint() { "$merge" inspect --json "$1" | sed -n 's/^  "base": "\(.*\)",$/\1/p'; }

farm folder "$model"
[ -n "$(fingerprint folder/out/mug.h5)" ] || fail "inspect tells no base"
# A concept that is a word alone leaves the base as it is, so its single file is the base in one file.
"$merge" export folder/out/mug.h5 --format diffusers -o word 2>/dev/null
"$merge" import 'word/<mug>.safetensors' --base "$model" --class mug -o word.h5 2>/dev/null

formats="diffusers diffusers-bin single single-diffusers lora peft delta-bin delta-ckpt compressed-bin compressed-ckpt"
for format in $formats; do
    "$merge" export folder/out/both.h5 --format "$format" --base "$model" --rank 4 -o "folder-$format" >/dev/null 2>&1
done
for keys in single single-diffusers; do
    "$merge" export word.h5 --format "$keys" -o "base-$keys" 2>/dev/null
    for part in unet vae text_encoder scheduler tokenizer; do # what is no weights lies beside it
        mkdir -p "base-$keys/model/$part"
        find "$model/$part" -type f ! -name '*.safetensors' -exec cp {} "base-$keys/model/$part" \;
    done
    farm "farm-$keys" "$work/base-$keys/model.safetensors"
    for name in mug creature both; do
        one=folder/out/$name.h5 two=farm-$keys/out/$name.h5
        [ "$(fingerprint $one)" = "$(fingerprint "$two")" ] || fail "$name: the base as $keys has another fingerprint"
        same $one "$two" || fail "$name of the base as $keys is another: $(tail -3 told)"
    done
    "$merge" merge folder/out/mug.h5 "farm-$keys/out/creature.h5" -o mixed.h5 >/dev/null 2>&1 ||
        fail "concepts of one base do not merge"
    for format in $formats; do # without --base: the file knows where it was
        "$merge" export "farm-$keys/out/both.h5" --format "$format" --rank 4 -o "$keys-$format" >/dev/null 2>err ||
            fail "$format on the base as $keys: $(cat err)"
        case $format in
        single*) # tensors stand in their base's order
            "$merge" import "folder-$format" --base "$model" --class '[mug, creature]' -o a.h5 2>/dev/null
            "$merge" import "$keys-$format" --base "$model" --class '[mug, creature]' -o b.h5 2>/dev/null
            same a.h5 b.h5
            ;;
        *) diff -r "folder-$format" "$keys-$format" >/dev/null ;;
        esac || fail "$format on the base as $keys is another"
    done
    "$merge" export "farm-$keys/out/both.h5" --full -o no 2>err && fail "a folder was made of one file"
    grep -q -- '--format single' err || fail "no remedy for a folder of one file: $(cat err)"
    cfarm sample --from "farm-$keys/out/both.h5" --prompt '<mug> mug' --steps 2 --out "s-$keys" >/dev/null 2>&1
    cfarm sample --from folder/out/both.h5 --prompt '<mug> mug' --steps 2 --out s-folder >/dev/null 2>&1
    cmp "s-$keys/00000.png" s-folder/00000.png || fail "the base as $keys paints otherwise"
done
