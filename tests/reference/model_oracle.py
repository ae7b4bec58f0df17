#!/usr/bin/env python3
"""model_oracle.py OUT: Stable Diffusion models of unusual shapes with random weights, and what diffusers computes with
them, in the layout golden_check reads: OUT/NAME/{model/,golden.json,golden.safetensors}. For shapes that no public
golden has. Needs torch 1.13, safetensors and diffusers 0.21.4 (imported, never copied)."""
import copy
import json
import os
import sys

import torch
from diffusers import DDPMScheduler
from diffusers.models import AutoencoderKL
from diffusers.models.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

# Some CPU builds of torch 1.13 let NaNs of an uninitialised result through small batched products, now and then.
torch.bmm = lambda a, b: (a.unsqueeze(2) * b.transpose(1, 2).unsqueeze(1)).sum(-1)
torch.baddbmm = lambda _, a, b, beta, alpha: alpha * torch.bmm(a, b)

NOISE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
             clip_sample=False, steps_offset=1, prediction_type="epsilon")
D, C, UP, CUP = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"

# What each is for: subset: attention on some levels, other ones down than up, depth and layers by level, an odd time
# embedding. one: a single level, no downsampling at all. five: five levels, v-prediction, other latent channels, other
# VAE factor. old: the old names of the VAE's attention, and scaled betas replaced by linear ones.
MODELS = {
    "subset": dict(
        latents=(2, 6, 10), tokens=9, text=24,
        unet=dict(block_out_channels=(4, 8, 12), down_block_types=(C, D, C), up_block_types=(UP, CUP, CUP),
                  layers_per_block=(1, 2, 1), transformer_layers_per_block=(2, 1, 1), attention_head_dim=(2, 4, 3),
                  norm_num_groups=4, norm_eps=1e-6, use_linear_projection=True, flip_sin_to_cos=False, freq_shift=1,
                  time_embedding_dim=20),
        vae=dict(block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=4, scaling_factor=0.13025)),
    "one": dict(
        latents=(1, 3, 5), tokens=77, text=16,
        unet=dict(block_out_channels=(8,), down_block_types=(C,), up_block_types=(CUP,), layers_per_block=3,
                  attention_head_dim=1, norm_num_groups=2),
        vae=dict(block_out_channels=(6,), layers_per_block=1, norm_num_groups=3)),
    "five": dict(
        latents=(1, 17, 19), tokens=12, text=20, noise=dict(prediction_type="v_prediction"), channels=6,
        unet=dict(block_out_channels=(4, 8, 8, 12, 16), down_block_types=(C, C, D, C, D),
                  up_block_types=(UP, CUP, UP, CUP, CUP), layers_per_block=1, attention_head_dim=2, norm_num_groups=4,
                  freq_shift=0),
        vae=dict(block_out_channels=(4, 4, 8), layers_per_block=1, norm_num_groups=2)),
    "old": dict(
        latents=(2, 8, 8), tokens=5, text=32, noise=dict(beta_schedule="linear"), old_names=True,
        unet=dict(block_out_channels=(16, 24), down_block_types=(C, D), up_block_types=(UP, CUP), layers_per_block=2,
                  attention_head_dim=8, norm_num_groups=8),
        vae=dict(block_out_channels=(8, 8, 16, 16), layers_per_block=2, norm_num_groups=8)),
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def randomise(module, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        r = torch.randn(p.shape, generator=g, dtype=torch.float64)
        fan = max(1, p[0].numel())
        p.data = (1 + 0.1 * r if p.ndim == 1 and "norm" in name and "weight" in name else
                  0.1 * r if p.ndim == 1 else r / fan ** 0.5).float()
    return module


def text_encoder(width, g):
    def r(*s):
        return torch.randn(s, generator=g) * 0.2
    t, n = {}, "text_model.encoder.layers.0."
    t["text_model.embeddings.token_embedding.weight"] = r(40, width)
    t["text_model.embeddings.position_embedding.weight"] = r(77, width)
    for k in "qkv":
        t[n + f"self_attn.{k}_proj.weight"], t[n + f"self_attn.{k}_proj.bias"] = r(width, width), r(width)
    t[n + "self_attn.out_proj.weight"], t[n + "self_attn.out_proj.bias"] = r(width, width), r(width)
    t[n + "mlp.fc1.weight"], t[n + "mlp.fc1.bias"] = r(12, width), r(12)
    t[n + "mlp.fc2.weight"], t[n + "mlp.fc2.bias"] = r(width, 12), r(width)
    for k in (n + "layer_norm1", n + "layer_norm2", "text_model.final_layer_norm"):
        t[k + ".weight"], t[k + ".bias"] = 1 + r(width), r(width)
    return t, dict(hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, vocab_size=40,
                   max_position_embeddings=77, hidden_act="gelu")


def dump(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)


def write_model(out, unet, vae, spec, noise):
    for name, m, file in (("unet", unet, "diffusion_pytorch_model"), ("vae", vae, "diffusion_pytorch_model")):
        dump(f"{out}/{name}/config.json", {"_class_name": type(m).__name__, **{
            k: v for k, v in m.config.items() if not k.startswith("_")}})
        state = {k: v.contiguous() for k, v in m.state_dict().items()}
        if name == "vae" and spec.get("old_names"):
            for new, old in OLD.items():
                state = {k.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): v for k, v in state.items()}
        save_file(state, f"{out}/{name}/{file}.safetensors")
    t, config = text_encoder(spec["text"], torch.Generator().manual_seed(3))
    dump(f"{out}/text_encoder/config.json", config)
    save_file(t, f"{out}/text_encoder/model.safetensors")
    dump(f"{out}/scheduler/scheduler_config.json", noise)
    dump(f"{out}/tokenizer/vocab.json", {"<|startoftext|>": 0, "<|endoftext|>": 1})
    with open(f"{out}/tokenizer/merges.txt", "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n")
    dump(f"{out}/model_index.json", {
        "_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "DDPMScheduler"]})


def outputs(unet, vae, x):
    """Everything the entries list, in the type of the modules."""
    y, dtype = {}, next(unet.parameters()).dtype
    noisy, text = (x[k].detach().to(dtype).requires_grad_() for k in ("noisy", "context"))
    y["unet/eps"] = unet(noisy, x["t"], text).sample
    loss = ((y["unet/eps"] - x["target"].to(dtype)) ** 2).mean()
    loss.backward()
    y["unet/loss"], y["unet/grad_context"], y["unet/grad_noisy"] = loss, text.grad, noisy.grad
    for name, p in unet.named_parameters():
        y["unet/grad/" + name] = p.grad
    with torch.no_grad():
        d = vae.encode(x["image"].to(dtype)).latent_dist
        y["vae/mean"], y["vae/logvar"] = d.mean, d.logvar
        y["vae/decoded"] = vae.decode(x["latent_in"].to(dtype)).sample
    return {k: v.detach() for k, v in y.items()}


def make(out, spec):
    channels, (n, h, w) = spec.get("channels", 4), spec["latents"]
    noise = {**NOISE, **spec.get("noise", {})}
    unet = randomise(UNet2DConditionModel(in_channels=channels, out_channels=channels, sample_size=8,
                                          cross_attention_dim=spec["text"], **spec["unet"]), 1)
    blocks = len(spec["vae"]["block_out_channels"])
    vae = randomise(AutoencoderKL(latent_channels=channels, down_block_types=["DownEncoderBlock2D"] * blocks,
                                  up_block_types=["UpDecoderBlock2D"] * blocks, **spec["vae"]), 2)
    write_model(f"{out}/model", unet, vae, spec, noise)

    g = torch.Generator().manual_seed(4)
    f, sched = 2 ** (blocks - 1), DDPMScheduler(**{k: v for k, v in noise.items() if k != "set_alpha_to_one"})
    x = {"x0": torch.randn(n, channels, h, w, generator=g), "noise": torch.randn(n, channels, h, w, generator=g),
         "t": torch.randint(0, 1000, (n,), generator=g), "context": torch.randn(n, spec["tokens"], spec["text"], generator=g),
         "image": torch.rand(1, 3, 5 * f + f // 2, 7 * f, generator=g) * 2 - 1,
         "latent_in": torch.randn(1, channels, 5, 7, generator=g)}
    x["noisy"] = sched.add_noise(x["x0"], x["noise"], x["t"])
    v = noise["prediction_type"] == "v_prediction"
    x["target"] = sched.get_velocity(x["x0"], x["noise"], x["t"]) if v else x["noise"]
    single = outputs(copy.deepcopy(unet), copy.deepcopy(vae), x)
    double = outputs(unet.double(), vae.double(), x)

    tensors = {"unet/latents": x["x0"], "unet/noise": x["noise"], "unet/timesteps": x["t"], "unet/context": x["context"],
               "vae/image": x["image"], "vae/latent_in": x["latent_in"]}
    entries = {k: {"kind": "input"} for k in tensors}
    typical = sorted(v.norm().item() for k, v in double.items() if "grad" in k)[len(double) // 2]
    for k, v in double.items():
        error, norm = (single[k].double() - v).norm().item(), v.norm().item()
        entries[k] = {"kind": "output", "err_fp32": error / (norm or 1)}
        if "grad" in k and norm < 1e-9 * typical:  # vanishes in exact arithmetic
            entries[k] = {"kind": "output", "err_fp32": error / typical, "zero": True, "floor": typical}
        tensors[k] = v.float()
    for k, t in tensors.items():
        entries[k].update(shape=list(t.shape), dtype="I64" if t.dtype == torch.int64 else "F32")
    dump(f"{out}/golden.json", {"entries": entries})
    save_file({k: t.contiguous() for k, t in tensors.items()}, f"{out}/golden.safetensors")


def main():
    for name, spec in MODELS.items():
        make(f"{sys.argv[1]}/{name}", spec)
        print(name)


if __name__ == "__main__":
    main()
