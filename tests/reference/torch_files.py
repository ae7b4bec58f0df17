#!/usr/bin/python3
"""Asks torch and h5py about the files formats.sh made in WORK, and writes files of torch's own for it to import.

Usage: torch_files.py WORK MODEL SAVED
"""
import collections
import json
import os
import struct
import sys

import h5py
import numpy
import torch

work, model, saved = sys.argv[1:4]
os.chdir(work)


def safetensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    kinds = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}
    return {k: numpy.frombuffer(data, kinds[v["dtype"]], int(numpy.prod(v["shape"])), 8 + n + v["data_offsets"][0]).reshape(v["shape"])
            for k, v in header.items() if k != "__metadata__" and v["dtype"] in kinds}


def plain(key):
    return key.replace("processor.to_k_custom_diffusion", "to_k").replace("processor.to_v_custom_diffusion", "to_v")


def same(a, b):
    a, b = numpy.asarray(a), numpy.asarray(b)
    return a.shape == b.shape and (a == b).all()


weights = safetensors(f"{saved}/pytorch_custom_diffusion_weights.safetensors")
row = safetensors(f"{saved}/<new1>.safetensors")["<new1>"]
base = safetensors(f"{model}/unet/diffusion_pytorch_model.safetensors")

# What torch reads of our files.
ours = torch.load("x-diffusers-bin/pytorch_custom_diffusion_weights.bin")
idle = {k: ours.pop(k) for k in list(ours) if k.endswith(".attn1.processor")}  # of the self-attention beside each of ours
assert len(idle) == sum(k.endswith("to_k_custom_diffusion.weight") for k in ours) and not any(idle.values())
assert ours.keys() == weights.keys() and all(same(ours[k], weights[k]) for k in weights)
assert same(torch.load("x-diffusers-bin/<new1>.bin")["<new1>"], row)
delta = torch.load("x-delta-bin")
assert same(delta["modifier_token"]["<new1>"], row)
assert all(same(delta["unet"][plain(k)], v) for k, v in weights.items())
ckpt = torch.load("x-delta-ckpt")["state_dict"]
assert same(ckpt["embed"], row[None]) and len(ckpt) == len(weights) + 1
assert all(k == "embed" or k.startswith("model.diffusion_model.") for k in ckpt)

# A LoRA is the best approximation of its rank: its error is what the singular values say.
lora = safetensors("x-lora/lora.safetensors")
for key, value in weights.items():
    name = "lora_unet_" + plain(key)[:-len(".weight")].replace(".", "_")
    change = value.astype(float) - base[plain(key)]
    up, down, alpha = (lora[f"{name}.{part}"].astype(float) for part in ("lora_up.weight", "lora_down.weight", "alpha"))
    assert up.shape[1] == down.shape[0] == alpha == 4
    error = numpy.linalg.norm(change - up @ down)
    best = numpy.sqrt((numpy.linalg.svd(change, compute_uv=False)[4:] ** 2).sum())
    assert abs(error - best) <= 1e-5 * numpy.linalg.norm(change), (key, error, best)

# A model folder is the base with these weights and this word in it.
whole = safetensors("x-model/unet/diffusion_pytorch_model.safetensors")
changed = {plain(k): v for k, v in weights.items()}
assert whole.keys() == base.keys() and all(same(whole[k], changed.get(k, base[k])) for k in base)
table = "text_model.embeddings.token_embedding.weight"
old, new = (safetensors(f"{d}/text_encoder/model.safetensors") for d in (model, "x-model"))
assert same(new[table], numpy.vstack([old[table], row[None]])) and all(same(new[k], old[k]) for k in old if k != table)
assert json.load(open("x-model/text_encoder/config.json"))["vocab_size"] == len(new[table])
assert json.load(open("x-model/tokenizer/added_tokens.json")) == {"<new1>": len(old[table])}

# Any HDF5 reader has the merged model: W = W0 + left' right.
with h5py.File("m.h5") as f, h5py.File("f.h5") as g:
    assert f.attrs["format"] == b"conceptfarm" and f.attrs["kind"] == b"merged"
    assert json.loads(f["certificate"][()])["verdict"].startswith("clean")
    assert sorted(f["tokens"]) == ["<keep>", "<new1>"] and "kv" not in g
    left = numpy.vstack([g[f"factors/left/{block:05d}"][:] for block in g["factors/blocks"][:]]).astype(float)
    right, at = g["factors/right"][:], 0
    for name, rows in zip(g["factors/matrices"][:], g["factors/matrix_rows"][:]):
        name = name.decode()
        layer, what = name[:-len(".weight")].rsplit(".", 1)
        want = base[name] + left[:, at:at + rows].T @ right
        assert numpy.abs(f[f"kv/{layer}/{what}"][:] - want).max() <= 1e-6 * numpy.abs(want).max()
        at += rows

# What torch writes: dictionaries of its own kind, turned tensors, parameters, halves that lose nothing, empty entries.
torch.save({"unet": collections.OrderedDict((plain(k), torch.tensor(v.T.copy()).t()) for k, v in weights.items()),
            "modifier_token": {"<new1>": torch.nn.Parameter(torch.tensor(row))}}, "t-delta.bin")
both = torch.tensor(numpy.stack([row * 0, row]))
torch.save({"state_dict": {**{k: v.double() for k, v in ckpt.items() if k != "embed"}, "embed": both[1:]}}, "t-delta.ckpt", pickle_protocol=4)
torch.save({**{k: torch.tensor(v) for k, v in weights.items()}, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor": {}},
           "t-diffusers.bin")
print("torch and h5py agree")
