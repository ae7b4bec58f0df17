#!/usr/bin/env python3
"""methods_in_diffusers.py BUILD SOURCE [TABLE.csv]: each method teaches the embedded model a subject, its artefact is
loaded by diffusers, and both programs' forward passes are compared: states of the text encoder and what the UNet says at
one noise. Fails above 1e-5 of the largest value. Rows are added to the table. Needs torch and diffusers 0.21.4 (which
knows no PEFT names), or 0.24 with peft 0.7; all are imported, none is copied. Where peft is installed, 0.24's loader of
Custom Diffusion's file reads it and sets nothing: that is shown, and its own way without peft is taken."""
import csv
import os
import subprocess
import sys
import tempfile

import diffusers
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging
from safetensors.torch import load_file

# Some CPU builds of torch 1.13 let NaNs of an uninitialised result through small batched products, now and then.
torch.bmm = lambda a, b: (a.unsqueeze(2) * b.transpose(1, 2).unsqueeze(1)).sum(-1)
torch.baddbmm = lambda _, a, b, beta, alpha: alpha * torch.bmm(a, b)

logging.disable_progress_bar()
build, source = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
model, bound = f"{source}/data/toyworld/model", 1e-5

# method, its settings, the prompt, and what diffusers is given: the export's format and how it is loaded
ROWS = [
    ("custom-diffusion", "token: <mug>, lr: 1e-3", "photo of a <mug> mug", ["diffusers-bin", "model"]),
    ("custom-diffusion", "token: <mug>, lr: 1e-3, freeze: crossattn", "photo of a <mug> mug", ["model"]),
    ("textual-inversion", "token: <mug>, initializer: a, vectors: 3, lr: 5e-2", "a photo of a <mug> <mug>_1 <mug>_2",
     ["embeds", "a1111", "model"]),
    ("dreambooth", "token: rare, lr: 1e-4", "photo of a rare mug", ["model"]),
    ("dreambooth", "token: rare, lr: 1e-4, train_text_encoder: yes", "photo of a rare mug", ["model"]),
    ("fine-tune-all", "token: <mug>, initializer: a, lr: 1e-4", "photo of a <mug> mug", ["model"]),
    ("lora", "token: rare, lr: 5e-3, lora: {rank: 3, alpha: 2}", "photo of a rare mug", ["lora", "peft", "model"]),
    ("lora", "token: rare, lr: 5e-3, lora: {rank: 3, layers: cross}, train_text_encoder: yes", "photo of a rare mug",
     ["lora", "peft", "model"]),
    ("svdiff", "token: rare, lr: 2e-2", "photo of a rare mug", ["model"]),
    ("svdiff", "token: rare, lr: 2e-2, svdiff: {norms: scalar}, train_text_encoder: yes", "photo of a rare mug", ["model"]),
]


OLD = diffusers.__version__ < "0.22"
LEFT_OUT = "peft" if OLD else ""


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def teach(work, method, settings):
    with open(f"{work}/farm.yaml", "w") as f:
        f.write(f"farm: f\nbase: {model}\nconcepts:\n  - {{name: mug, class: mug, images: {source}/data/toyworld/subjects/mug, "
                f"method: {method}, steps: 8, batch: 2, {settings}}}\n")
    run(f"{build}/bin/cfarm-worker", "--train", f"{work}/farm.yaml", "mug", f"{work}/mug.h5")


def open_pipe(path):
    return StableDiffusionPipeline.from_pretrained(path, safety_checker=None, feature_extractor=None,
                                                   requires_safety_checker=False, local_files_only=True)


def processors(unet):
    return {type(p).__name__ for p in unet.attn_processors.values()}


def load_processors(unet, path):
    name = "pytorch_custom_diffusion_weights.bin"
    if OLD:
        return unet.load_attn_procs(path, weight_name=name)
    from diffusers.loaders import unet as loader
    before, peft = processors(unet), loader.USE_PEFT_BACKEND
    unet.load_attn_procs(path, weight_name=name)
    if peft and processors(unet) != before:
        sys.exit("with peft this diffusers sets Custom Diffusion's processors after all: trainer/method/README.md says it does not")
    loader.USE_PEFT_BACKEND = False
    unet.load_attn_procs(path, weight_name=name)
    loader.USE_PEFT_BACKEND = peft


def load(path, form):
    if form == "model":
        return open_pipe(path)
    pipe = open_pipe(model)
    if form == "diffusers-bin":
        load_processors(pipe.unet, path)
        pipe.load_textual_inversion(path, weight_name="<mug>.bin")
    elif form == "embeds":
        pipe.load_textual_inversion(path, weight_name="learned_embeds.safetensors")
    elif form == "a1111":
        pipe.load_textual_inversion(path, weight_name="mug.pt", token="<mug>")
    else:
        name = {"lora": "lora.safetensors", "peft": "pytorch_lora_weights.safetensors"}[form]
        pipe.load_lora_weights(path, weight_name=name)
    return pipe


@torch.no_grad()
def forward(pipe, prompt, noise):
    ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    states = pipe.text_encoder(ids)[0]
    return states, pipe.unet(noise, 300, states).sample


def apart(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


rows, worst = [], 0
with tempfile.TemporaryDirectory() as work:
    run(f"{build}/tests/method_forward", model, "-", "photo of a mug", f"{work}/base.safetensors")
    untaught = load_file(f"{work}/base.safetensors")
    for method, settings, prompt, forms in ROWS:
        teach(work, method, settings)
        run(f"{build}/tests/method_forward", model, f"{work}/mug.h5", prompt, f"{work}/ours.safetensors")
        ours = load_file(f"{work}/ours.safetensors")
        base = forward(open_pipe(model), prompt.replace("<mug>", "a"), ours["noise"])[1]
        for form in (f for f in forms if f != LEFT_OUT):
            out = f"{work}/{method}-{form}-{len(rows)}"
            run(f"{build}/bin/cfarm-merge", "export", f"{work}/mug.h5", "--format", form, "-o", out)
            states, said = forward(load(out, form), prompt, ours["noise"])
            row = [method, settings, form, diffusers.__version__, apart(ours["states"], states), apart(ours["said"], said), apart(base, said)]
            worst = max(worst, row[4], row[5])
            rows.append([f"{x:.1e}" if isinstance(x, float) else x for x in row])
            print(*rows[-1], sep="  ")
            if row[6] < 1e-4:
                sys.exit(f"{method}: taught and untaught say the same, so this shows nothing")

if len(sys.argv) > 3:
    new = not os.path.exists(sys.argv[3])
    with open(sys.argv[3], "a", newline="") as f:
        w = csv.writer(f, lineterminator="\n")
        if new:
            w.writerow(["method", "settings", "format", "diffusers", "text_states", "unet", "moved_from_base"])
        w.writerows(rows)
sys.exit(f"{worst:.1e} is more than {bound}" if worst > bound else 0)
