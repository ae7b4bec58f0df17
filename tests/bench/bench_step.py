#!/usr/bin/env python3
"""The Custom Diffusion step of bench_step.c in PyTorch and diffusers 0.21 (a baseline, never a dependency):
K/V of cross-attention and one token row move, everything else is frozen, clipping and AdamW included.

  bench_step.py MODEL_DIR [--batch 2] [--size H W] [--steps 10] [--threads 1] [--compute f32|bf16]
bf16 is autocast's. Where torch has fused attention, diffusers uses it.
"""
import argparse
import json
import resource
import time

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models import attention_processor
from transformers import CLIPTextModel

FUSED = hasattr(torch.nn.functional, "scaled_dot_product_attention")
CustomDiffusionAttnProcessor = getattr(attention_processor, "CustomDiffusionAttnProcessor2_0" if FUSED else "CustomDiffusionAttnProcessor",
                                       attention_processor.CustomDiffusionAttnProcessor)


def custom_diffusion(unet):
    """As train_custom_diffusion.py does it with freeze_model=crossattn_kv."""
    state = unet.state_dict()
    procs = {}
    for name in unet.attn_processors:
        cross = name.endswith("attn2.processor")
        if not cross:
            plain = attention_processor.AttnProcessor2_0 if FUSED else attention_processor.AttnProcessor
            procs[name] = plain()
            continue
        layer = name[: -len(".processor")]
        hidden, width = state[layer + ".to_k.weight"].shape
        p = CustomDiffusionAttnProcessor(train_kv=True, train_q_out=False, hidden_size=hidden, cross_attention_dim=width)
        p.load_state_dict({"to_k_custom_diffusion.weight": state[layer + ".to_k.weight"],
                           "to_v_custom_diffusion.weight": state[layer + ".to_v.weight"]})
        procs[name] = p
    unet.set_attn_processor(procs)
    return [q for p in procs.values() if hasattr(p, "parameters") for q in p.parameters()]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model")
    ap.add_argument("--batch", type=int, default=2)
    ap.add_argument("--size", type=int, nargs=2, default=[8, 8])
    ap.add_argument("--steps", type=int, default=10)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--compute", choices=["f32", "bf16"], default="f32")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet").float()
    text = CLIPTextModel.from_pretrained(a.model, subfolder="text_encoder").float()
    noise = DDPMScheduler.from_pretrained(a.model, subfolder="scheduler")
    unet.requires_grad_(False)
    text.requires_grad_(False)
    vocab = text.config.vocab_size
    text.resize_token_embeddings(vocab + 1)
    table = text.get_input_embeddings().weight
    table.requires_grad_(True)
    moves = [table] + custom_diffusion(unet)
    adam = torch.optim.AdamW(moves, lr=1e-5)
    keep = torch.ones(vocab + 1, 1)
    keep[:vocab] = 0
    x = torch.randn(a.batch, unet.config.in_channels, *a.size)
    eps = torch.randn_like(x)
    ids = torch.randint(0, vocab, (a.batch, 77))
    ids[:, 4] = vocab
    t = torch.randint(0, 1000, (a.batch,))
    seconds = []
    for i in range(-2, a.steps):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.compute == "bf16"):
            noisy = noise.add_noise(x, eps, t)
            said = unet(noisy, t, text(ids)[0]).sample
        loss = ((said.float() - eps) ** 2).mean()
        loss.backward()
        table.grad *= keep
        torch.nn.utils.clip_grad_norm_(moves, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        if i >= 0:
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    print(json.dumps({"program": "torch " + torch.__version__, "model": a.model, "compute": a.compute, "threads": a.threads,
                      "batch": a.batch, "resident_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                      "latents": a.size, "step_s_min": round(seconds[0], 6), "step_s_median": round(seconds[len(seconds) // 2], 6)}))


main()
