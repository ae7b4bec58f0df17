#!/usr/bin/env bash
# What each method leaves behind goes out in every format that can hold it, comes in again, and goes on into every other: as if
# it came from the file itself. On the embedded model.  Usage: pairs.sh BIN SOURCE
set -euo pipefail
bin=$(cd "$1" && pwd) source=$(cd "$2" && pwd)
toy=$source/data/toyworld
model=$toy/model
regularisation="{images: $toy/regularisation/mug, captions: $toy/regularisation/mug/captions.txt}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache PATH=$bin:$PATH
cd "$work"
merge=$bin/cfarm-merge

fail() { echo "pairs.sh: $*" >&2; exit 1; }

cat >farm.yaml <<EOF
farm: farm
base: $model
defaults: {steps: 2, batch: 2, lr: 1.0e-3, resolution: 64}
concepts:
  - {name: kv, class: mug, images: $toy/subjects/mug, token: <new1>, regularisation: $regularisation}
  - {name: word, class: mug, images: $toy/subjects/mug, method: textual-inversion, token: <word>}
  - {name: lora, class: mug, images: $toy/subjects/mug, method: lora, token: rare}
  - {name: shift, class: mug, images: $toy/subjects/mug, method: svdiff, token: rare, regularisation: $regularisation}
EOF
cfarm train farm.yaml </dev/null >log 2>&1 || fail "no training: $(tail -5 log)"

send() {
    "$merge" export "$1" --format "$2" --base "$model" --rank 8 --share 100% -o "$3" >/dev/null 2>err || fail "$1 as $2: $(cat err)"
}
fetch() {
    "$merge" import "$1" --base "$model" --class mug -o "$2" 2>err || fail "$1 does not come back: $(cat err)"
}

# The same weights and words, whatever is told of where they come from.
same() {
    "$merge" diff "$@" >told 2>/dev/null || true
    grep -q -e '^0 of [0-9]* tensors differ' -e '^the same contents' told && ! grep -q '^  token' told
}

# Lossless formats of each: all pairs, to the byte.
pairs() {
    local name=$1 from to
    shift
    send "farm/out/$name.h5" "$1" first
    fetch first "$name.h5"
    rm -r first
    same "farm/out/$name.h5" "$name.h5" || fail "$name through $1 is another: $(tail -3 told)"
    for to in "$@"; do
        send "$name.h5" "$to" "x-$name-$to"
        fetch "x-$name-$to" "$name-$to.h5"
        cmp "$name.h5" "$name-$to.h5" || fail "$name: $to gives another file back"
    done
    for from in "$@"; do
        for to in "$@"; do
            send "$name-$from.h5" "$to" y
            diff -r "x-$name-$to" y >/dev/null || fail "$name: $to by way of $from is another than $to itself"
            rm -r y
        done
    done
}
pairs kv diffusers diffusers-bin delta-bin delta-ckpt model single single-diffusers
pairs word embeds delta-bin model single single-diffusers
pairs lora lora
send farm/out/shift.h5 svdiff first
fetch first shift.h5
same farm/out/shift.h5 shift.h5 --within 1e-6 || fail "shifts through svdiff's file are others: $(tail -3 told)"
send shift.h5 svdiff x-shift-svdiff
send word.h5 a1111 x-word-a1111 # whose words have no < and >
fetch x-word-a1111/word.pt a1111.h5
send a1111.h5 embeds y
cmp <(tail -c 32 y/learned_embeds.safetensors) <(tail -c 32 x-word-embeds/learned_embeds.safetensors) ||
    fail "A1111's file has another row"

# By way of factors: a LoRA in either names is the same whole model, and a change of rank 8 is found again as far as f32 goes.
send lora.h5 peft p
fetch p peft.h5
for format in model single; do
    send lora.h5 "$format" "w-lora-$format"
    send peft.h5 "$format" "w-peft-$format"
    fetch "w-lora-$format" l.h5
    fetch "w-peft-$format" p.h5
    same l.h5 p.h5 --base "$model" --within 1e-4 || fail "both names of a LoRA are not one $format: $(tail -3 told)"
done
send shift.h5 model w-shift
fetch w-shift whole.h5
send whole.h5 single w-whole
send shift.h5 single w-shift-single
fetch w-whole a.h5
fetch w-shift-single b.h5
cmp a.h5 b.h5 || fail "shifts by way of a model folder are another single file"
for format in compressed-bin compressed-ckpt; do
    send kv.h5 "$format" "x-$format"
    fetch "x-$format" "$format.h5"
    same kv.h5 "$format.h5" --base "$model" --within 1e-4 || fail "$format, all of it, is another: $(tail -3 told)"
    for to in diffusers delta-bin delta-ckpt single; do
        send "$format.h5" "$to" z
        fetch z back.h5
        cmp "$format.h5" back.h5 || fail "$to of what came by $format gives another file back"
        rm -r z
    done
done

# Each file says where it is from, and what is not taken of one is told.
for file in x-kv-diffusers/*.safetensors x-kv-diffusers-bin/*.bin x-kv-delta-bin x-kv-delta-ckpt \
    x-kv-model/unet/*.safetensors x-kv-single/*.safetensors x-word-embeds/*.safetensors x-word-a1111/*.pt x-lora-lora/*.safetensors x-shift-svdiff/*.safetensors \
    x-compressed-bin; do
    grep -aq 'base_fingerprint' "$file" || fail "$file does not say what it is of"
done

file=x-kv-diffusers/pytorch_custom_diffusion_weights.safetensors
sed 's/to_k_custom_diffusion/to_x_custom_diffusion/g' "$file" >foreign.safetensors
keys=$(grep -ao 'to_k_custom_diffusion' "$file" | wc -l)
"$merge" import foreign.safetensors --base "$model" --class mug -o no.h5 2>err && fail "keys that mean nothing were imported"
[ "$(grep -c 'unknown key .*to_x_custom_diffusion.weight' err)" = "$keys" ] ||
    fail "not all of $keys unknown keys are told: $(cat err)"
[ ! -e no.h5 ] || fail "a refused import left a file"
