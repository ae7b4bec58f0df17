#!/usr/bin/env python3
"""Loads what cfarm exports in other programs and compares a forward pass with ours: the text features of a prompt with the
concept's word, and what the UNet says of one noise. Prints a line for each client and format; exit status 1 where one is off.

Usage: clients.py BUILD MODEL SAVED        MODEL: a base model (SD 1.x's text encoder); SAVED: custom-diffusion weights for it
Needs torch, diffusers and transformers; peft where LoRAs are to be loaded. Ran with diffusers 0.21.4 (torch 1.13.1) for the
.bin format and with a current one for the others.
"""
import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import diffusers
from diffusers import StableDiffusionPipeline

build, model, saved = (os.path.abspath(a) for a in sys.argv[1:4])
PROMPT, TOLERANCE = "photo of a <new1> cat", 1e-5
old = tuple(int(n) for n in diffusers.__version__.split(".")[:2]) < (0, 22)
failed = []
os.chdir(tempfile.mkdtemp(prefix="cf-clients-"))


def cfarm(*args):
    subprocess.run([f"{build}/bin/cfarm-merge", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def pipeline(path=model):
    return StableDiffusionPipeline.from_pretrained(path, safety_checker=None, requires_safety_checker=False, feature_extractor=None,
                                                   image_encoder=None)


def ours(concept):
    subprocess.run([f"{build}/bin/unet_once", model, concept, PROMPT, "x.safetensors", "ours.safetensors"], check=True)
    return load_file("ours.safetensors")


def far(a, b):
    return float((a - b).norm() / b.norm())


@torch.no_grad()
def compare(what, pipe, want):
    ids = pipe.tokenizer(PROMPT, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    text = pipe.text_encoder(ids)[0]
    said = pipe.unet(noise.permute(2, 0, 1)[None], time, text).sample[0].permute(1, 2, 0)
    told = far(text[0], want["text"]), far(said, want["said"])
    good = max(told) <= TOLERANCE
    print(f"diffusers {diffusers.__version__}\t{what}\ttext {told[0]:.1e}\tunet {told[1]:.1e}\t{'equal' if good else 'OFF'}", flush=True)
    if not good:
        failed.append(what)


def five_lines(unet, path):
    """What diffusers' own loader does not do any more: the matrices are the UNet's, under other names."""
    weights = load_file(path)
    weights = {k.replace("processor.", "").replace("_custom_diffusion", ""): v for k, v in weights.items()}
    missing, unexpected = unet.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected


cfarm("import", saved, "--base", model, "--class", "cat", "-o", "a.h5")
for name, flags in {"diffusers": [], "diffusers-bin": [], "model": [], "single": [], "lora": ["--error", "0.0001%"],
                    "peft": ["--error", "0.0001%"]}.items():
    cfarm("export", "a.h5", "--format", name, *flags, "-o", name)
torch.manual_seed(5)
side = pipeline().unet.config.sample_size
side = side if isinstance(side, int) else side[0]
noise, time = torch.randn(side, side, 4), torch.tensor(500)
save_file({"x": noise.clone(), "t": torch.tensor([500.0])}, "x.safetensors")
want = ours("a.h5")

compare("model folder", pipeline("model"), want)
pipe = pipeline()
five_lines(pipe.unet, "diffusers/pytorch_custom_diffusion_weights.safetensors")
pipe.load_textual_inversion("diffusers", weight_name="<new1>.safetensors")
compare("custom-diffusion safetensors, five lines; token file", pipe, want)
if old:
    pipe = pipeline()
    pipe.unet.load_attn_procs("diffusers-bin", weight_name="pytorch_custom_diffusion_weights.bin")
    pipe.load_textual_inversion("diffusers-bin", weight_name="<new1>.bin")
    compare("custom-diffusion .bin; token file", pipe, want)
else:
    for form, file in (("lora", "lora.safetensors"), ("peft", "pytorch_lora_weights.safetensors")):
        pipe = pipeline()
        pipe.load_lora_weights(form, weight_name=file)
        pipe.load_textual_inversion(form, weight_name="<new1>.safetensors")
        compare(f"LoRA, {'kohya' if form == 'lora' else 'PEFT'}'s keys", pipe, want)
    pipe = StableDiffusionPipeline.from_single_file("single/model.safetensors", config=model, local_files_only=True, safety_checker=None,
                                                    feature_extractor=None)
    pipe.load_textual_inversion("single", weight_name="<new1>.safetensors")
    compare("single file, CompVis' keys; token file", pipe, want)
sys.exit(1 if failed else 0)
