#!/usr/bin/env python3
"""carry_words.py OLD NEW: two small models of the captioned world, NEW with a text encoder that was gone on with. NEW's UNet
becomes OLD's, whose cross-attention keys and values ask the new states for what they asked the old ones: W_new = W_old A,
A by least squares from what both encoders say of 1,500 captions, so that not all of the UNet's training is to be had again.
Prints the share of the old states' variance that A misses. Needs torch, transformers and safetensors."""
import random
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

CLASSES = ("mug bottle bowl vase lamp book clock hat chair cake apple ball star kite umbrella rocket house car boat tree flower "
           "mushroom fish bird cat snail").split()
COLOURS = "red orange yellow green teal blue purple pink brown black white grey".split()
PATTERNS, SIZES = ["", "striped ", "dotted ", "checked "], ["", "", "small ", "large "]
PLACES = ["on a wooden table", "in a kitchen", "on a shelf with books", "on a green meadow", "on the beach", "in the snow",
          "at night under the moon", "in the forest"]
MARKS = [""] * 8 + [" with a face", " with a heart", " with a scarf", " with a crown"]
BESIDE, BEGIN = ["left of", "right of", "beside", "next to", "and"], ["", "photo of ", "a photo of ", "a picture of "]
LONGEST, END, WEIGHTS = 77, 1083, "/unet/diffusion_pytorch_model.safetensors"


def thing(dice):
    colour = dice.choice(COLOURS) + " " if dice.random() < 0.875 else ""
    words = dice.choice(SIZES) + colour + dice.choice(PATTERNS) + dice.choice(CLASSES)
    return ("an " if words[0] in "aou" else "a ") + words + dice.choice(MARKS)


def captions(dice, n):
    out = [""] * 60
    for i in range(n):
        text = dice.choice(BEGIN) + thing(dice)
        if i % 5 < 3:
            text += " " + dice.choice(BESIDE) + " " + thing(dice)
        out.append(text + (" " + dice.choice(PLACES) if dice.random() < 0.83 else ""))
    return out


def states(folder, texts, dice):
    """[places, width]: every word's, the end's, and of what follows it four a caption."""
    words, encoder = CLIPTokenizer.from_pretrained(folder + "/tokenizer"), CLIPTextModel.from_pretrained(folder + "/text_encoder")
    out = []
    for at in range(0, len(texts), 64):
        ids = words(texts[at:at + 64], padding="max_length", max_length=LONGEST, truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            said = encoder(input_ids=ids).last_hidden_state
        out.append(said[:4, 0])
        for row, its in zip(said, ids):
            end = int((its == END).nonzero()[0])
            out.append(row[list(range(1, end + 1)) + dice.sample(range(end + 1, LONGEST), 4)])
    return torch.cat(out).double()


def main(old, new):
    texts = captions(random.Random(1), 1500)
    was, now = states(old, texts, random.Random(2)), states(new, texts, random.Random(2))
    gram = now.T @ now
    gram += 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    a = torch.linalg.solve(gram, now.T @ was).T  # a @ now ~ was
    missed = ((now @ a.T - was) ** 2).sum() / ((was - was.mean(0)) ** 2).sum()
    weights = load_file(old + WEIGHTS)
    for name in weights:
        if "attn2.to_k.weight" in name or "attn2.to_v.weight" in name:
            weights[name] = (weights[name].double() @ a).half()
    save_file(weights, new + WEIGHTS, metadata={"format": "pt"})
    print(f"missed {float(missed):.4f} of {len(was)} places")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
