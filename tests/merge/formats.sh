#!/usr/bin/env bash
# A concept of another program goes through every format and comes back as the same bytes; two concepts are merged and the
# merged file is read by h5dump and, where Debian's python3 has h5py and torch, by those.
#   formats.sh BIN MODEL SAVED    MODEL: a base model; SAVED: custom-diffusion weights for it, as diffusers saves them
# Status 77: nothing to work on.
set -euo pipefail
bin=$1 model=$2 saved=$3
[ -d "$model" ] && [ -d "$saved" ] || { echo "no model at $model: skipped"; exit 77; }
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache
cd "$work"
merge=$bin/cfarm-merge

fail() { echo "formats.sh: $*" >&2; exit 1; }
contents() { "$merge" inspect --json "$1" | sed -n 's/^  "sha256": "\(.*\)",$/\1/p' | head -n 1; }

"$merge" import "$saved" --base "$model" --class cat -o a.h5
# Every format that is lossless, into every other: from whichever file the concept comes, it is the same.
exact="diffusers diffusers-bin delta-bin delta-ckpt model single single-diffusers"
for format in $exact; do
    "$merge" export a.h5 --format "$format" -o "x-$format"
    "$merge" import "x-$format" --base "$model" --class cat -o "b-$format.h5"
    [ "$(contents a.h5)" = "$(contents "b-$format.h5")" ] || fail "$format does not give the concept back"
    cmp a.h5 "b-$format.h5" || fail "$format gives other bytes"
done
for from in $exact; do
    for to in $exact; do
        "$merge" export "b-$from.h5" --format "$to" -o "y-$from-$to" 2>/dev/null
        diff -r "x-$to" "y-$from-$to" >/dev/null || fail "$to made of $from is another than $to made of the concept"
        rm -rf "y-$from-$to"
    done
done
# Compressed, all of it and part of it: what the singular values leave out is what is lost.
for format in compressed-bin compressed-ckpt; do
    for share in 100% 60%; do
        "$merge" export a.h5 --format "$format" --share "$share" -o "x-$format-$share"
        "$merge" import "x-$format-$share" --base "$model" --class cat -o "b-$format-$share.h5"
    done
    "$merge" diff a.h5 "b-$format-100%.h5" --base "$model" --within 1e-5 >told || fail "$format whole: $(tail -3 told)"
    "$merge" diff a.h5 "b-$format-60%.h5" --base "$model" --within 1e-5 >told && fail "$format: three fifths are the whole"
    grep -q 'tensors differ$' told || fail "$format: $(tail -3 told)"
done
"$merge" diff a.h5 b-diffusers.h5 >told || fail "a file differs from its like: $(cat told)"
"$merge" export a.h5 --format lora --rank 4 -o x-lora >told
grep -q 'rank 4 leaves out 0\.' told || fail "a LoRA does not tell what it lost"
"$merge" export a.h5 --format lora --error 1% -o x-lora-error >told
grep -Eq 'leave out 0\.0(0|1)' told || fail "a LoRA within one hundredth: $(cat told)"
"$merge" export a.h5 --format model -o x-model 2>err && fail "an existing folder was overwritten"
grep -q 'is there already' err || fail "no sentence for an existing folder: $(cat err)"
# The exported folder is a base model that knows the word and has the concept's matrices.
"$merge" import "$saved" --base x-model --class cat -o again.h5 2>err && fail "a word was taught twice"
grep -q '<new1>' err || fail "the word known already is not named: $(cat err)"

mv x-diffusers/'<new1>.safetensors' x-diffusers/'<keep>.safetensors'
token=x-diffusers/'<keep>.safetensors'
sed -i 's/<new1>/<keep>/' "$token" # both words have six letters
# Another word needs another embedding: any floats will do, here the last ones of the weights.
bytes=$(grep -ao '"data_offsets":\[0,[0-9]*' "$token" | grep -o '[0-9]*$')
{ head -c -"$bytes" "$token"; tail -c "$bytes" x-diffusers/pytorch_custom_diffusion_weights.safetensors; } >t && mv t "$token"
"$merge" import x-diffusers --base "$model" --class dog -o c.h5
"$merge" merge a.h5 c.h5 -o m.h5 >told
grep -q '^clean' told || fail "the merge is not clean: $(cat told)"
"$merge" merge a.h5 c.h5 -o m2.h5 >/dev/null
cmp m.h5 m2.h5 || fail "the same merge gives other bytes"
# The base in one file, in either keys, is the same base; what is no weights lies beside it.
"$merge" import x-diffusers/'<keep>.safetensors' --base "$model" --class dog -o word.h5
for format in single single-diffusers; do
    "$merge" export word.h5 --format "$format" -o "base-$format"
    for part in unet vae text_encoder scheduler tokenizer; do
        mkdir -p "base-$format/model/$part"
        cp "$model/$part"/*.json "base-$format/model/$part"
    done
    cp "$model/tokenizer/merges.txt" "base-$format/model/tokenizer"
    "$merge" merge a.h5 c.h5 --base "base-$format/model.safetensors" -o "m-$format.h5" >/dev/null
    cmp m.h5 "m-$format.h5" || fail "the base as $format gives another merge"
    "$bin/cfarm-sample" --model "base-$format/model.safetensors" --prompt 'a cat' --steps 2 --out "s-$format" 2>/dev/null
    "$bin/cfarm-sample" --model "$model" --prompt 'a cat' --steps 2 --out "s-folder-$format" 2>/dev/null
    cmp "s-$format/00000.png" "s-folder-$format/00000.png" || fail "the base as $format paints otherwise"
done
"$merge" merge a.h5 c.h5 --factors-only -o f.h5 >/dev/null
for file in m f; do # full matrices and factors are one model
    "$merge" export "$file.h5" --format diffusers -o "w-$file"
done
cmp w-m/pytorch_custom_diffusion_weights.safetensors w-f/pytorch_custom_diffusion_weights.safetensors ||
    fail "factors and full matrices differ"
# Out, in again, and weighed: what a merge of the files themselves gives.
"$merge" merge f.h5 --remove c -o one.h5 --factors-only >/dev/null
"$merge" merge one.h5 c.h5 -o two.h5 --factors-only >/dev/null
"$merge" diff f.h5 two.h5 >told || fail "taken out and put in again: $(cat told)"
"$merge" merge f.h5 --weight c=0.5 -o half.h5 --factors-only >/dev/null
"$merge" merge half.h5 --weight c.h5=1 -o whole.h5 --factors-only >/dev/null
"$merge" diff f.h5 whole.h5 >told || fail "half and whole again: $(cat told)"
"$merge" merge f.h5 --remove nobody -o no.h5 2>err && fail "nobody was taken out"
grep -q 'not exactly one concept has that name' err || fail "no sentence for nobody: $(cat err)"
"$merge" merge a.h5 c.h5 -o seen.h5 --prompt '<new1> cat and <keep> dog' --prompt 'a cat' --steps 2 >/dev/null 2>&1
for column in 0-base 1-a.h5 2-c.h5 3-merged; do
    [ -f "seen-preview/$column/00001.png" ] || fail "no picture of $column"
done
[ -s seen-preview/grid.png ] || fail "no grid"
"$merge" merge a.h5 c.h5 --relax bank -o bank.h5 >told
grep -q '^bank: each of 2 concepts' told || fail "no bank: $(cat told)"
"$bin/cfarm-sample" --from bank.h5 --prompt '<new1> cat' --prompt 'a cat' --steps 2 --out s-bank 2>/dev/null
"$bin/cfarm-sample" --from a.h5 --prompt '<new1> cat' --steps 2 --out s-a 2>/dev/null
"$bin/cfarm-sample" --model "$model" --prompt 'a cat' --steps 2 --out s-base 2>/dev/null
cmp s-bank/00001.png s-base/00000.png || fail "a prompt without words is not the base's in a bank"
cmp -s s-bank/00000.png s-base/00000.png && fail "a word does nothing in a bank"
"$merge" export bank.h5 --format diffusers -o x-bank 2>err && fail "a bank was exported"
grep -q 'a bank of 2 concepts' err || fail "no sentence for a bank: $(cat err)"
"$merge" merge a.h5 a.h5 -o no.h5 2>err && fail "one concept twice was merged"
[ ! -e no.h5 ] || fail "a refused merge left a file"
"$merge" inspect m.h5 >told
grep -q 'rank used' told || fail "inspect tells no certificate"
if command -v h5dump >/dev/null; then
    h5dump -H m.h5 >told
    grep -q to_k told || fail "h5dump cannot read a merged file"
fi

if /usr/bin/python3 -c 'import torch, h5py, numpy' 2>/dev/null; then
    /usr/bin/python3 "$here/../reference/torch_files.py" "$work" "$model" "$saved"
    for file in t-delta.bin t-delta.ckpt t-diffusers.bin; do # written by torch itself, in its many manners
        token=()
        [ "$file" = t-diffusers.bin ] && token=(x-diffusers-bin/'<new1>.bin')
        "$merge" import "$file" "${token[@]}" --base "$model" --class cat -o "$file.h5"
        cmp a.h5 "$file.h5" || fail "$file, written by torch, gives another concept"
    done
else
    echo "no torch or h5py: their part is skipped"
fi
