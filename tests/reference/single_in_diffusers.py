#!/usr/bin/env python3
"""diffusers' own converter over our models in one file: every tensor must be that of our model folder, to the bit.

Usage: single_in_diffusers.py BUILD MODEL SAVED
MODEL: a base model's folder; SAVED: custom-diffusion weights for it, as diffusers saves them (tests/merge/formats.sh has the same).
Needs diffusers of 0.16 to 0.24 (convert_from_ckpt) with transformers. Prints a line a part.
"""
import json
import os
import subprocess
import sys
import tempfile

import torch
from diffusers import __version__
from diffusers.pipelines.stable_diffusion import convert_from_ckpt as convert
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

build, base, saved = (os.path.abspath(a) for a in sys.argv[1:4])


def cfarm(*args):
    subprocess.run([f"{build}/bin/cfarm-merge", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class WithWidth(dict):
    """The converter takes the width from a tensor that no model folder has, and does not ask for it otherwise."""
    KEY, NORM = "cond_stage_model.model.text_projection", "cond_stage_model.model.ln_final.weight"

    def __contains__(self, key):
        return key == self.KEY or dict.__contains__(self, key)

    def __getitem__(self, key):
        return self[self.NORM] if key == self.KEY else dict.__getitem__(self, key)


def config(part):
    with open(f"{base}/{part}/config.json") as f:
        return {"class_embed_type": None, "addition_embed_type": None} | json.load(f)


def text_of(checkpoint):
    if "cond_stage_model.model.ln_final.weight" in checkpoint:
        checkpoint = WithWidth(checkpoint)
        return convert.convert_open_clip_checkpoint(checkpoint, f"{base}/text_encoder").state_dict()
    empty = CLIPTextModel(CLIPTextConfig.from_pretrained(f"{base}/text_encoder"))
    return convert.convert_ldm_clip_checkpoint(checkpoint, text_encoder=empty).state_dict()


def compare(part, got, file):
    want = load_file(f"folder/{part}/{file}.safetensors")
    old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"} # of the VAE's attention, as early files have it
    same = 0
    for name, w in want.items():
        where = name if name in got else ".".join(old.get(x, x) for x in name.split("."))
        if name.endswith("position_ids"):
            continue
        g = got[where][: w.shape[0]] if where in got else sys.exit(f"{part}: diffusers finds no {name}")
        w = w[: g.shape[0]] # the token table has a row more in the folder
        if not torch.equal(g.reshape(w.shape).to(w.dtype), w):
            sys.exit(f"{part}: {name} differs")
        same += 1
    print(f"diffusers {__version__}\t{part}\t{same} tensors equal")


os.chdir(tempfile.mkdtemp(prefix="cf-single-"))
cfarm("import", saved, "--base", base, "--class", "cat", "-o", "a.h5")
cfarm("export", "a.h5", "--format", "single", "-o", "one")
cfarm("export", "a.h5", "--format", "model", "-o", "folder")
checkpoint = load_file("one/model.safetensors")
compare("unet", convert.convert_ldm_unet_checkpoint(dict(checkpoint), config("unet")), "diffusion_pytorch_model")
compare("vae", convert.convert_ldm_vae_checkpoint(dict(checkpoint), config("vae")), "diffusion_pytorch_model")
compare("text_encoder", text_of(dict(checkpoint)), "model")
