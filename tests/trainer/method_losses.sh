#!/usr/bin/env bash
# Each method learns one subject of real photographs on the embedded model, beside class pictures where its paper has them;
# the mean loss over 64 fixed draws of the subject must fall. Two subjects are taught jointly, and three.
#   method_losses.sh BIN SOURCE SUBJECTS [TABLE.csv]     status 77: no photographs
set -euo pipefail
bin=$1 source=$2 subjects=$3 table=${4:-}
[ -d "$subjects" ] || { echo "no photographs at $subjects: skipped"; exit 77; }
subjects=$(cd "$subjects" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export XDG_CACHE_HOME=$work/cache
reg="regularisation: {generate: 12, steps: 10}"

rows() { # name | settings
    cat <<R
custom-diffusion|method: custom-diffusion, class: cat, images: $subjects/cat, token: <pet>, lr: 1e-3, initializer: a, $reg
custom-diffusion, crossattn|method: custom-diffusion, class: cat, images: $subjects/cat, token: <pet>, freeze: crossattn, lr: 1e-3, initializer: a, $reg
custom-diffusion, 2 subjects|method: custom-diffusion, lr: 1e-3, subjects: [{class: cat, images: $subjects/cat, token: <a>, initializer: a}, {class: dog, images: $subjects/dog6, token: <b>, initializer: a}]
custom-diffusion, 3 subjects|method: custom-diffusion, batch: 6, lr: 1e-3, subjects: [{class: cat, images: $subjects/cat, token: <a>, initializer: a}, {class: dog, images: $subjects/dog6, token: <b>, initializer: a}, {class: vase, images: $subjects/vase, token: <c>, initializer: a}]
textual-inversion|method: textual-inversion, class: cat, images: $subjects/cat, token: <pet>, initializer: a, vectors: 2, lr: 2e-2, batch: 4
dreambooth|method: dreambooth, class: cat, images: $subjects/cat, token: rare, lr: 5e-5, batch: 8, $reg
dreambooth, text encoder|method: dreambooth, class: cat, images: $subjects/cat, token: rare, lr: 5e-5, train_text_encoder: yes, batch: 8, $reg
fine-tune-all|method: fine-tune-all, class: cat, images: $subjects/cat, token: <pet>, initializer: a, lr: 5e-5, $reg
lora|method: lora, class: cat, images: $subjects/cat, token: rare, lr: 2e-3, batch: 8, $reg
lora, cross|method: lora, class: cat, images: $subjects/cat, token: rare, lora: {layers: cross, rank: 8}, lr: 5e-3, batch: 8, $reg
svdiff|method: svdiff, class: cat, images: $subjects/cat, token: rare, lr: 5e-3, batch: 8, $reg
svdiff, scalar norms|method: svdiff, class: cat, images: $subjects/cat, token: rare, svdiff: {norms: scalar}, lr: 5e-3, batch: 8, $reg
R
}

number() { sed -E "s/.*\"$1\":([-0-9.e]+).*/\1/" told; }

out=$(mktemp)
echo "method,settings,steps,first_tenth,last_tenth,probe_before,probe_after,fall" >"$out"
while IFS='|' read -r name settings; do
    printf 'farm: f\nbase: %s\nconcepts: [{name: c, steps: 120, probe: 64, %s}]\n' "$source/data/toyworld/model" "$settings" >farm.yaml
    "$bin/cfarm-worker" --train farm.yaml c c.h5 >told 2>err || { echo "$name: $(tail -n 1 err)"; exit 1; }
    before=$(number probe_before) after=$(number probe_after)
    awk -v a="$before" -v b="$after" 'BEGIN { exit !(b < a) }' || { echo "$name: $before before and $after after: the loss does not fall"; exit 1; }
    short=$(sed -E "s#$subjects/##g; s/class: [^,}]*, //g; s/images: [^,}]*, //; s/images: //g" <<<"$settings")
    awk -v n="$name" -v s="$short" -v t="$(number steps)" -v f="$(number first_loss)" -v l="$(number last_loss)" -v a="$before" -v b="$after" \
        'BEGIN { printf "\"%s\",\"%s\",%d,%.4f,%.4f,%.5f,%.5f,%.2f %%\n", n, s, t, f, l, a, b, 100 * (a - b) / a }' | tee -a "$out"
done < <(rows)
[ -z "$table" ] || { cd - >/dev/null; mv "$out" "$table"; chmod 644 "$table"; }
