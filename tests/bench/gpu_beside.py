"""What both sides of gpu_beside are given: a Stable Diffusion 1.5 with random weights as a diffusers folder, and pictures.

  gpu_beside.py base FOLDER [tiny]       tiny: the same with few channels, for trying the script out
  gpu_beside.py pictures FOLDER COUNT SIDE SEED
  gpu_beside.py sample BASE COUNT SIDE   diffusers' own pictures, as one batch
"""
import json
import os
import sys


def tokenizer_files(folder):
    """A byte-pair vocabulary of CLIP's size and form. Random weights know no words, so any merges serve: pairs of letters, then
    pairs of those, until the count is right."""
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocab = letters + [c + "</w>" for c in letters]
    ends, merges, seen = [c for c in letters if c.isalpha() and c.isascii()], [], set(vocab)
    pairs = [(a, b) for a in ends for b in ends]
    for a, b in pairs + [(a + b, c) for a, b in pairs for c in ends]:
        for last in ("", "</w>"):
            if len(vocab) < 49406 and a + b + last not in seen:
                seen.add(a + b + last)
                merges.append(f"{a} {b}{last}")
                vocab.append(a + b + last)
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({w: i for i, w in enumerate(vocab)}, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "\n".join(merges) + "\n")
    return len(vocab)


def base(folder, tiny):
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(1)
    width, channels = (32, (32, 32, 64, 64)) if tiny else (768, (320, 640, 1280, 1280))
    vocab = tokenizer_files(os.path.join(folder, "tokenizer"))
    tokenizer = CLIPTokenizer(os.path.join(folder, "tokenizer", "vocab.json"), os.path.join(folder, "tokenizer", "merges.txt"), model_max_length=77)
    text = CLIPTextModel(CLIPTextConfig(vocab_size=vocab, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2 if tiny else 12,
                                        num_attention_heads=4 if tiny else 12, projection_dim=width))
    unet = UNet2DConditionModel(sample_size=8 if tiny else 64, in_channels=4, out_channels=4, block_out_channels=channels, layers_per_block=2,
                                cross_attention_dim=width, attention_head_dim=8)
    vae = AutoencoderKL(block_out_channels=(16, 16, 32, 32) if tiny else (128, 256, 512, 512), layers_per_block=2, latent_channels=4,
                        norm_num_groups=16 if tiny else 32, down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64 if tiny else 512)
    noise = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, num_train_timesteps=1000, clip_sample=False, steps_offset=1)
    StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=noise, safety_checker=None,
                            feature_extractor=None, requires_safety_checker=False).save_pretrained(folder, safe_serialization=True)


def pictures(folder, count, side, seed):
    import numpy
    from PIL import Image, ImageDraw

    chance = numpy.random.default_rng(seed)
    os.makedirs(folder, exist_ok=True)
    for k in range(count):
        field = chance.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
        image = Image.fromarray(field).resize((side, side), Image.BICUBIC)
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            x, y, r = (int(v) for v in chance.integers(0, side, 3))
            draw.ellipse((x - r // 4, y - r // 4, x + r // 4, y + r // 4), fill=tuple(int(v) for v in chance.integers(0, 256, 3)))
        image.save(os.path.join(folder, f"{k:03d}.jpg"), quality=92)


def sample(folder, count, side):
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    device, kind = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=kind, safety_checker=None, requires_safety_checker=False)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)("a cat", num_inference_steps=50, guidance_scale=6, num_images_per_prompt=count, height=side, width=side)


if __name__ == "__main__":
    what = sys.argv[1:]
    if len(what) in (2, 3) and what[0] == "base":
        base(what[1], len(what) == 3 and what[2] == "tiny")
    elif len(what) == 5 and what[0] == "pictures":
        pictures(what[1], int(what[2]), int(what[3]), int(what[4]))
    elif len(what) == 4 and what[0] == "sample":
        sample(what[1], int(what[2]), int(what[3]))
    else:
        sys.exit(__doc__)
