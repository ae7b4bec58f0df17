#!/usr/bin/env python3
"""ComfyUI's own key mapping over our LoRA in kohya's names: every key must lead to the matrix it was made of.

Usage: comfy_keys.py BUILD MODEL FOLDER
MODEL: a folder made by `bench_model sd15 MODEL TOKENIZER f16`; FOLDER: where comfy/lora.py and comfy/utils.py of ComfyUI lie
(nothing of it is kept here). The concepts are those of bench_merge, with the 32 K/V matrices of Stable Diffusion 1.x in their names and sizes; where such
a model keeps them is written out below as its checkpoints have it, so a mapping to somewhere else is found out.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import types

build, base, folder = (os.path.abspath(a) for a in sys.argv[1:4])
sys.path.insert(0, folder)
from comfy import lora  # noqa: E402

WHERE = {"middle_block.1": 1280}
WHERE |= {f"input_blocks.{i}.1": 320 * 2 ** ((i - 1) // 3) for i in (1, 2, 4, 5, 7, 8)}
WHERE |= {f"output_blocks.{i}.1": 1280 // 2 ** (i // 3 - 1) for i in range(3, 12)}
MODEL = {f"diffusion_model.{at}.transformer_blocks.0.attn2.to_{kv}.weight": out for at, out in WHERE.items() for kv in "kv"}
CONFIG = {"num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth": [1] * 6 + [0] * 2,
          "transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1}


def tensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    return {name: t["shape"] for name, t in header.items() if name != "__metadata__"}


def cfarm(*args):
    subprocess.run([f"{build}/bin/cfarm-merge", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


os.chdir(tempfile.mkdtemp(prefix="cf-comfy-"))
subprocess.run([f"{build}/bin/bench_merge", "--files", ".", "2", base], check=True, stderr=subprocess.DEVNULL)
cfarm("merge", "0.h5", "1.h5", "--features", "features.h5", "--factors-only", "-o", "m.h5")
cfarm("export", "m.h5", "--format", "lora", "--rank", "12", "--base", base, "-o", "out")
ours = tensors("out/lora.safetensors")
model = types.SimpleNamespace(state_dict=lambda: dict.fromkeys(MODEL), model_config=types.SimpleNamespace(unet_config=CONFIG))
known = lora.model_lora_keys_unet(model, {})
wrong, hit = [], {}
for key, shape in ours.items():
    stem = next((key[: -len(end)] for end in (".lora_up.weight", ".lora_down.weight", ".alpha") if key.endswith(end)), None)
    to = known.get(stem)
    if to not in MODEL:
        wrong.append(f"{key}: {to}")
        continue
    hit.setdefault(to, set()).add(key[len(stem):])
    if key.endswith("up.weight") and shape[0] != MODEL[to] or key.endswith("down.weight") and shape[1] != 768:
        wrong.append(f"{key}: {shape} into {to} of {MODEL[to]}")
wrong += [f"{to}: nothing" for to in MODEL if len(hit.get(to, ())) != 3]
print("\n".join(wrong) if wrong else f"{len(ours)} keys lead to {len(hit)} of {len(MODEL)} matrices, each with up, down and alpha")
sys.exit(1 if wrong else 0)
