#!/usr/bin/env bash
# What a person gets for a mistake. Each row makes one, runs the real program, and holds it to the same law: it ends by
# itself within 20 s with the status given (never by a signal), says a line that matches, and leaves no half-written file.
#   tests/cli/mistakes.sh BIN_DIR SOURCE_DIR [--table]     --table prints the messages as a Markdown table
set -u
bin=$(cd "$1" && pwd)
src=$(cd "$2" && pwd)
table=${3:-}
toy=$src/data/toyworld
work=$(mktemp -d /tmp/cfarm-mistakes-XXXXXX)
trap 'umount "$work/small" 2>/dev/null; rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1
PATH=$bin:$PATH
passed=0 failed=0

# wrong NAME STATUS REGEX COMMAND...
wrong() {
    local name=$1 status=$2 regex=$3 got text half
    shift 3
    text=$(cd "$work" && timeout -k 1 20 "$@" 2>&1 >/dev/null </dev/null)
    got=$?
    half=$(find "$work" -name '*.tmp-*' | head -n 1)
    if [ "$got" = "$status" ] && [ -z "$half" ] && grep -qE -- "$regex" <<<"$text"; then
        passed=$((passed + 1))
        [ -z "$table" ] || printf '| %s | `%s` |\n' "$name" "$(grep -E -- "$regex" <<<"$text" | head -n 1 | sed "s#$work#…#g; s#$src/##g; s/|/\\\\|/g")"
    else
        failed=$((failed + 1))
        printf 'FAIL %s: status %s (wanted %s)%s\n  wanted: %s\n  got:    %s\n' "$name" "$got" "$status" "${half:+, left $half}" "$regex" \
            "$(head -n 5 <<<"$text")"
    fi
}

# A farm file: the common part, then what the row says of its one concept. farm BODY [TOP-LEVEL]
farm() {
    printf 'farm: f\nbase: %s\n%s\ndefaults: {steps: 2, batch: 2}\nconcepts:\n  - {name: mug, class: mug, token: <mug>, images: %s%s}\n' \
        "${base:-$toy/model}" "${2:-}" "${images:-$toy/subjects/mug}" "${1:+, $1}" >"$work/farm.yaml"
}
check() { wrong "$1" 2 "$2" cfarm-worker --check farm.yaml; }
pictures() { rm -rf "$work/pics"; mkdir "$work/pics"; cp "$toy"/subjects/mug/*.png "$work/pics/"; images=$work/pics; }
model() { rm -rf "$work/model"; cp -r "$toy/model" "$work/model"; base=$work/model; }
bad_model() { farm; check "$1" "$2"; base=; }
bad_picture() { farm; check "$1" "$2"; images=; }
first() { ls "$work"/pics/*.png | head -n 1; }
flip() { # FILE OFFSET: one bit
    python3 - "$1" "$2" <<'P' 2>/dev/null || printf '\xff' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1); f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 1]))
P
}

# ---- the farm file ----
farm 'stesp: 5';                     check 'a key with a typing error' "farm.yaml:[0-9]+:[0-9]+: unknown key 'stesp'.*'steps'"
farm 'steps: many';                  check 'a word for a number' "farm.yaml:[0-9]+:[0-9]+: .*steps.*many"
farm 'steps: 0';                     check 'a number out of range' "farm.yaml:[0-9]+:[0-9]+: .*steps.*1"
farm 'steps: 2.5';                   check 'half a step' "farm.yaml:[0-9]+:[0-9]+: .*steps"
farm 'lr: fast';                     check 'a word for a rate' "farm.yaml:[0-9]+:[0-9]+: .*lr"
farm 'method: dreamboth';            check 'a method there is not' "farm.yaml:[0-9]+:[0-9]+: .*method.*dreamboth.*custom-diffusion"
farm 'compat: difusers';             check 'a choice with a typing error' "farm.yaml:[0-9]+:[0-9]+: .*compat"
farm 'leaves: 3, batch: 4';          check 'a batch that cannot be cut so' 'leaves'
farm 'warmup: 100';                  check 'a warm-up longer than the training' 'warmup'
farm 'resolution: 60';               check 'a side that is no multiple of the latents' 'resolution|multiple'
farm 'token: mug';                   check 'a token that is a word of the vocabulary' 'token'
farm 'initializer: qqqqzzzz';        check 'an initializer that is no word' 'initializer'
farm '' 'limits: {gang_max: 99999}'; check 'a limit out of range' "farm.yaml:[0-9]+:[0-9]+: .*gang_max"
farm '' 'limits: {time_limit: 5 parsecs}'; check 'a time in parsecs' "farm.yaml:[0-9]+:[0-9]+: .*time_limit"
farm '' 'backend: cuda';              check 'a backend that this build has not' 'backend: cuda: this build has no CUDA backend'
farm '' 'merge: [{name: m, of: [mug, cup]}]'; check 'a merge of a concept there is not' "farm.yaml:[0-9]+:[0-9]+: .*cup"
printf 'farm: f\nbase: %s\ndefaults: {class: mug, images: %s, steps: 2}\nconcepts:\n - {name: a}\n - {name: b, method: svdiff, token: rare}\nmerge: [{name: m, of: [a, b]}]\n' \
    "$toy/model" "$toy/subjects/mug" >"$work/farm.yaml"
check 'a merge of what does not add up' "farm.yaml:[0-9]+:[0-9]+: merge m: a was taught by custom-diffusion and b by svdiff"
farm; sed -i 's/name: mug/name: ..\/mug/' "$work/farm.yaml";    check 'a name that leaves the folder' "farm.yaml:[0-9]+:[0-9]+: .*name"
farm 'regularisation_cache: ../cache';  check 'class pictures kept above the farm' "regularisation_cache: '../cache' leads out"
farm 'regularisation: {generate: 2, images: /tmp/made}'; check 'class pictures made elsewhere' "regularisation.images: '/tmp/made' leads out"
farm; printf '  - {name: mug, class: mug, images: x}\n' >>"$work/farm.yaml"; check 'two concepts of one name' "farm.yaml:[0-9]+:[0-9]+: .*mug"
farm; printf '  - {name: mug2, class: mug, token: <mug>, images: %s}\n' "$toy/subjects/mug" >>"$work/farm.yaml"
                                     check 'two concepts with one token' 'token <mug>.*mug'
farm; printf '  - {name: [}\n' >>"$work/farm.yaml";             check 'YAML that is none' "farm.yaml:[0-9]+:[0-9]+: "
farm; printf 'farm: again\n' >>"$work/farm.yaml";               check 'a key that stands twice' "farm.yaml:[0-9]+:[0-9]+: .*second"
farm; printf '\tsteps: 3\n' >>"$work/farm.yaml";                check 'a tab for indentation' "farm.yaml:[0-9]+:[0-9]+: "
farm; printf '  - from: none.tsv\n' >>"$work/farm.yaml";        check 'a table that is not there' 'none.tsv'
: >"$work/farm.yaml";                check 'an empty farm file' 'farm.yaml'
wrong 'a farm file that is not there' 2 'none.yaml: .*no such file' cfarm-worker --check none.yaml
wrong 'a folder for a farm file' 2 'small|folder|regular|directory' cfarm-worker --check /tmp

# ---- pictures ----
images=$work/nowhere;                bad_picture 'a folder of pictures that is not there' 'nowhere'
rm -rf "$work/pics"; mkdir "$work/pics"; images=$work/pics; bad_picture 'an empty folder' 'pics'
pictures; echo hello >"$(first)";    bad_picture 'a text named .png' '\.png: .*(PNG|JPEG)'
pictures; : >"$(first)";             bad_picture 'an empty picture' '\.png: .*empty'
pictures; truncate -s 60 "$(first)"; farm; wrong 'a picture cut short' 1 '\.png: ' cfarm-worker --train farm.yaml mug out.h5; images=
pictures; f=$(first); rm "$f"; mkdir "$f"; bad_picture 'a folder named like a picture' '\.png: '
pictures; f=$(first); rm "$f"; mkfifo "$f"; bad_picture 'a pipe named like a picture' '\.png: '
pictures; f=$(first); rm "$f"; ln -s "$f" "$f"; bad_picture 'a link to itself' '\.png: '
pictures; printf '\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\0\0\0\x01\0\0\x08\x02\0\0\0\xd2\x2c\x0b\x3c' >"$(first)"
                                     bad_picture 'a bomb of 65536 x 65536 pixels' '\.png: .*(pixels|large|CRC|damaged)'
pictures; printf 'one\n' >"$work/captions.txt"; farm "captions: $work/captions.txt"
                                     images=; check 'a caption without the token' 'without <mug>'
farm "regularisation: {images: $work/nowhere}"; check 'class pictures that are not there' 'nowhere'
farm "regularisation: {images: $toy/subjects/creature, index: $toy/subjects/creature}"; check 'two sources of class pictures' 'regularisation'
printf 'a mug\n\xff\xfe\n' >"$work/captions.txt"; farm "captions: $work/captions.txt"; check 'captions that are not UTF-8' 'UTF-8'

# ---- model files ----
base=$work/nowhere;                  bad_model 'a base model that is not there' 'nowhere'
model; rm "$base/unet/"*.safetensors; bad_model 'a model without UNet weights' 'unet'
model; rm "$base/tokenizer/vocab.json"; bad_model 'a tokenizer without a vocabulary' 'vocab.json'
model; echo '{"act_fn": ' >"$base/unet/config.json"; bad_model 'a config cut short' 'config.json:[0-9]+:[0-9]+'
model; sed -i 's/"silu"/"mish"/' "$base/unet/config.json"; bad_model 'an activation that is not built' 'config.json.*act_fn.*mish'
model; sed -i 's/"cross_attention_dim": *[0-9]*/"cross_attention_dim": 48/' "$base/unet/config.json"; bad_model 'a config of another model' 'cross_attention_dim.*48.*64'
model; truncate -s 1000 "$base/unet/"*.safetensors; bad_model 'weights cut short' 'safetensors: '
model; truncate -s 4 "$base/vae/"*.safetensors; bad_model 'weights cut in their first bytes' 'safetensors: '
model; flip "$(ls "$base"/unet/*.safetensors)" 9; bad_model 'one bit of a weights header' 'safetensors: '
model; printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of="$(ls "$base"/text_encoder/*.safetensors)" conv=notrunc status=none
                                     bad_model 'a header longer than the file' 'safetensors: '
model; echo 'not a merge' >>"$base/tokenizer/merges.txt"; bad_model 'a broken line of merges' 'merges.txt: line [0-9]+'
model; rm "$base/scheduler/scheduler_config.json"; bad_model 'a model without a noise schedule' 'scheduler'

# ---- concept files, made once ----
farm; (cd "$work" && cfarm-worker --train farm.yaml mug good.h5 >/dev/null 2>&1) || { echo "FAIL a good training did not train"; failed=$((failed + 1)); }
half=$(($(stat -c %s "$work/good.h5") / 2))
sample() { local name=$1 regex=$2; shift 2; wrong "$name" "${status:-1}" "$regex" cfarm-sample --model "$toy/model" "$@"; }
cp "$work/good.h5" "$work/bad.h5"; truncate -s $half "$work/bad.h5"; sample 'a concept file cut short' 'bad.h5: ' --from bad.h5 --prompt x
cp "$work/good.h5" "$work/bad.h5"; flip "$work/bad.h5" $half;        sample 'one bit of a concept file' 'bad.h5: ' --from bad.h5 --prompt x
echo hello >"$work/bad.h5";          sample 'a text for a concept file' 'bad.h5: ' --from bad.h5 --prompt x
sample 'a concept file that is not there' 'none.h5: ' --from none.h5 --prompt x
sample 'two files that teach one word' 'good.h5 teaches <mug>' --from good.h5 --from good.h5 --prompt x
farm; sed -i 's/<mug>/<cup>/' "$work/farm.yaml"
(cd "$work" && cfarm-worker --train farm.yaml mug cup.h5 >/dev/null 2>&1 &&
    cfarm-sample --from good.h5 --from cup.h5 --prompt 'a <mug>' --prompt 'a <cup>' --prompt 'a mug' --steps 1 --out three 2>/dev/null &&
    [ -s three/00002.png ]) || { echo "FAIL two files, each by its prompt"; failed=$((failed + 1)); }
sample 'words of two files in one prompt' 'words of two files' --from good.h5 --from cup.h5 --prompt 'a <mug> and a <cup>'
status=2 sample 'no prompt' 'prompt'
status=2 sample 'a sampler there is not' 'sampler.*ddim' --prompt x --sampler dimm
status=2 sample 'no steps' 'steps' --prompt x --steps 0
sample 'a width that is no multiple of 8' 'width|multiple' --prompt x --width 65
sample 'a file of prompts that is not there' 'none.txt' --prompts none.txt
sample 'a folder below a file' 'farm.yaml' --prompt x --out farm.yaml/pictures
wrong 'a result below a file' 1 'farm.yaml' cfarm-worker --train farm.yaml mug farm.yaml/out.h5
wrong 'a merge with a broken file' 1 'bad.h5: ' cfarm-merge merge good.h5 bad.h5 -o both.h5 --base "$toy/model"
wrong 'a merge without a result' 2 "'out' is missing" cfarm-merge merge good.h5 good.h5 --base "$toy/model"
wrong 'a concept merged with itself' 1 'good' cfarm-merge merge good.h5 good.h5 -o both.h5 --base "$toy/model"
wrong 'an export to nobody' 2 'diffusers.*lora' cfarm-merge export good.h5 --format nobody --out x
wrong 'a command there is not' 2 'trian.*train' cfarm trian farm.yaml

# ---- the disk ----
if [ "$(id -u)" = 0 ] && mkdir "$work/small" && mount -t tmpfs -o size=32k cfarm-test "$work/small" 2>/dev/null; then
    wrong 'a disk that is full' 1 'no space left' cfarm-worker --train farm.yaml mug small/out.h5
    [ -z "$(ls -A "$work/small")" ] || { echo "FAIL a full disk was left with $(ls "$work/small")"; failed=$((failed + 1)); }
fi
(ulimit -f 16; trap '' XFSZ; wrong 'a file that may not grow' 1 'File too large|small.h5' cfarm-worker --train farm.yaml mug small.h5; exit $failed) || failed=$((failed + 1))

[ -n "$table" ] || echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
