#!/usr/bin/env python3
"""eval_oracle.py OUT [--long] | kid: what independent implementations of the measuring models compute, for test_judge.

For each model OUT/NAME/: config.json where it has one, weights.tsv (every tensor of the public layout: name, shape) and
features.safetensors (picture, and for CLIP text). Weights are no files: both sides look them up by name (fill below and
judge_kit.c), so that real shapes cost a few kilobytes. Pictures are a formula, put through Pillow as the published
programs do. Features are computed in double. Needs torch, torchvision, transformers, timm, pytorch-fid and Pillow
(imported, never copied)."""
import json
import os
import sys
import tempfile
import types

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
from safetensors.torch import load_file, save_file
from torchvision.models import inception as tv
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
BICUBIC = torchvision.transforms.InterpolationMode.BICUBIC


# ---- numbers that both sides look up ----

def philox_words(key, blocks):
    c = np.zeros((4, blocks), dtype=np.uint64)
    c[0] = np.arange(blocks, dtype=np.uint64)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = np.stack([(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & low])
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c.T.reshape(-1)


def fnv1a(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def fill(name, shape):
    """rng_uniform of the stream (seed 7, the tensor's name, 0, 0), to -1..1; variances positive, norms about 1, matrices
    by 1.7 / sqrt(fan in), convolutions by 2.45 (what follows is a relu)."""
    n = int(np.prod(shape, dtype=np.int64))
    words = philox_words(fnv1a(name) ^ 7, (n + 3) // 4)[:n]
    u = (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0 ** -24)
    v = u * np.float32(2) - np.float32(1)
    if name.endswith("running_var"):
        v = np.float32(1) + np.float32(0.5) * v
    elif len([d for d in shape if d != 1]) <= 1:
        v = np.float32(0.1) * v + np.float32(1 if "norm" in name and name.endswith("weight") or ".bn.weight" in name else 0)
    else:
        v = v * np.float32((2.45 if len(shape) == 4 else 1.7) / np.sqrt(n / shape[0]))
    return torch.from_numpy(v.reshape(shape))


def picture(h, w):
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    return Image.fromarray((((x * x) // 97 + y * 3 * (c + 1) + x * y // 61) % 256).astype(np.uint8))


# ---- models ----

def write(out, name, shapes, features, config=None):
    os.makedirs(f"{out}/{name}", exist_ok=True)
    if config:
        with open(f"{out}/{name}/config.json", "w", encoding="utf-8") as f:
            json.dump(config, f, indent=1)
    with open(f"{out}/{name}/weights.tsv", "w", encoding="utf-8") as f:
        for k, s in shapes.items():
            f.write(f"{k}\t{','.join(str(d) for d in s)}\n")
    save_file({k: v.float().reshape(-1).contiguous() for k, v in features.items()}, f"{out}/{name}/features.safetensors")
    print(name, sum(int(np.prod(s, dtype=np.int64)) for s in shapes.values()), "numbers")


def refilled(module):
    """The module with looked-up weights, by way of the files its own library reads and writes."""
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        state = load_file(f"{folder}/model.safetensors")
        shapes = {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point() and v.ndim > 0}
        save_file({k: fill(k, v.shape) if k in shapes else v for k, v in state.items()}, f"{folder}/model.safetensors",
                  metadata={"format": "pt"})
        return type(module).from_pretrained(folder).double().eval(), shapes


def cropped(im, shorter, side, stats):
    t = torchvision.transforms
    return t.Compose([t.Resize(shorter, interpolation=BICUBIC), t.CenterCrop(side), t.ToTensor(),
                      t.Normalize(*stats)])(im)[None].double()


def vit_config(width, layers, heads, inner, side, patch):
    return dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
                image_size=side, patch_size=patch)


def make_clip(out, name, vision, text, projection, size):
    config = dict(model_type="clip", projection_dim=projection, vision_config=vision, text_config=text)
    model, shapes = refilled(CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=projection)))
    side = vision["image_size"]
    eos = text["vocab_size"] - 1
    words = [26, 27, 28] if eos < 1000 else [320, 1929]  # "a b c" by small_model's vocabulary; "a dog" by CLIP's
    ids = torch.tensor([[eos - 1] + words + [eos] * (76 - len(words))])
    with torch.no_grad():
        see = model.visual_projection(model.vision_model(cropped(picture(*size), side, side, CLIP)).pooler_output)
        states = model.text_model(ids).last_hidden_state
        end = (ids[0] == eos).nonzero()[0, 0]
        read = model.text_projection(states[:, end])
        assert end == len(words) + 1
    write(out, name, shapes, {"picture": see, "text": read}, config)


def make_hf(out, name, sizes, shorter, size):
    config = dict(model_type="vit", layer_norm_eps=1e-12, hidden_act="gelu", **sizes)
    model, shapes = refilled(ViTModel(ViTConfig(**{k: v for k, v in config.items() if k != "model_type"}), add_pooling_layer=False))
    with torch.no_grad():
        y = model(cropped(picture(*size), shorter, sizes["image_size"], IMAGENET)).last_hidden_state[:, 0]
    write(out, name, shapes, {"picture": y}, config)


def make_dino(out, name, width, layers, side, patch, shorter, size):
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=side, patch_size=patch, embed_dim=width, depth=layers, num_heads=width // 64, num_classes=0).eval()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict({k: fill(k, s) for k, s in shapes.items()})
    with torch.no_grad():
        y = model.double()(cropped(picture(*size), shorter, side, IMAGENET))
    write(out, name, shapes, {"picture": y}, None)


class Thinner(tv.BasicConv2d):
    """Every layer with a part of its channels."""
    by = 1

    def __init__(self, i, o, **kw):
        super().__init__(i if i == 3 else i // self.by, o // self.by, **kw)


def thin(block):
    return lambda *a, **kw: block(*a, conv_block=Thinner, **kw)


def make_inception(out, name, by, fid, size):
    Thinner.by = by
    blocks = [Thinner] + [thin(b) for b in (tv.InceptionA, tv.InceptionB, tv.InceptionC, tv.InceptionD, tv.InceptionE)]
    model = tv.Inception3(num_classes=1008 if fid else 1000, aux_logits=False, transform_input=False, init_weights=False,
                          inception_blocks=blocks + [tv.InceptionAux])
    model.fc = torch.nn.Linear(2048 // by, 1008 if fid else 1000)
    if fid:
        forms = {"Mixed_5b": FIDInceptionA, "Mixed_5c": FIDInceptionA, "Mixed_5d": FIDInceptionA, "Mixed_6b": FIDInceptionC,
                 "Mixed_6c": FIDInceptionC, "Mixed_6d": FIDInceptionC, "Mixed_6e": FIDInceptionC,
                 "Mixed_7b": FIDInceptionE_1, "Mixed_7c": FIDInceptionE_2}
        for k, form in forms.items():
            m = getattr(model, k)
            m.forward = types.MethodType(form.forward, m)
    model.eval()
    state = model.state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point()}
    model.load_state_dict({k: fill(k, v.shape) if k in shapes else v for k, v in state.items()})
    model.double()
    got = []
    model.avgpool.register_forward_hook(lambda m, i, o: got.append(o.flatten(1)))
    channels = [Image.fromarray(c.astype(np.float32), mode="F").resize((299, 299), Image.BICUBIC)
                for c in np.asarray(picture(*size)).transpose(2, 0, 1)]
    x = np.clip(np.stack([np.asarray(c) for c in channels]), 0, 255)
    centre = 128 if fid else 127.5
    with torch.no_grad():
        model(torch.from_numpy((x.astype(np.float64) - centre) / centre)[None])
    write(out, name, shapes, {"picture": got[0]}, None)


def kid():
    """clean-fid's KID of two looked-up sets, whole: no subset is drawn, so both sides' draws are the same."""
    from cleanfid.fid import kernel_distance
    x, y = (fill(name, (count, 24)).numpy().astype(np.float64) for name, count in (("x", 40), ("y", 30)))
    print("same size", repr(kernel_distance(x[:30], y + 0.05, num_subsets=1, max_subset_size=30)))
    print("itself", repr(kernel_distance(x[:30], x[:30], num_subsets=1, max_subset_size=30)))


def main():
    out = sys.argv[1]
    if out == "kid":
        return kid()
    if "--long" in sys.argv:
        make_clip(out, "clip_b32", vit_config(768, 12, 12, 3072, 224, 32), dict(
            hidden_size=512, num_hidden_layers=12, num_attention_heads=8, intermediate_size=2048, vocab_size=49408), 512, (301, 417))
        make_dino(out, "dino_s16", 384, 12, 224, 16, 256, (301, 417))
        make_inception(out, "inception_fid", 1, True, (301, 417))
        return
    make_clip(out, "clip_small", dict(vit_config(24, 2, 3, 40, 32, 8), hidden_act="quick_gelu"), dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=54), 12, (45, 61))
    make_hf(out, "dino_hf", vit_config(24, 2, 3, 40, 28, 7), 32, (61, 45))
    make_dino(out, "dino_small", 128, 2, 28, 7, 32, (45, 61))
    make_inception(out, "inception_small", 16, True, (45, 61))
    make_inception(out, "inception_torchvision", 16, False, (331, 340))


if __name__ == "__main__":
    main()
