"""Compares the tokenizer with the reference on random, damaged and hostile text, and prints what differs.

    python3 tests/reference/tokenizer_oracle.py TOKENIZER_CAT TOKENIZER_DIR [COUNT [SEED]]

Needs ftfy==6.3.1 and regex, and a Python whose unicodedata is version 14 (3.11). Hugging Face's slow CLIPTokenizer is
written out below in its own terms: split at special words, fix_text, blanks, lower, pattern, byte-pair encoding.
"""
import json
import random
import re
import subprocess
import sys
import unicodedata

import ftfy
import regex
from ftfy.badness import MOJIBAKE_CATEGORIES
from ftfy.chardata import CHARMAP_ENCODINGS, HTML_ENTITIES, UTF8_CLUES

assert unicodedata.unidata_version == "14.0.0"
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
ADDED = ["<new1>", "<new2>"]


class Slow:
    def __init__(self, folder):
        self.encoder = json.load(open(folder + "/vocab.json", encoding="utf-8"))
        lines = open(folder + "/merges.txt", encoding="utf-8").read().strip().split("\n")[1:49152 - 256 - 2 + 1]
        self.ranks = dict(zip((tuple(line.split()) for line in lines), range(len(lines))))
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [b for b in range(256) if b not in printable]
        self.letters = {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}
        self.special = {w: self.encoder[w] for w in SPECIAL}
        self.special.update({w: len(self.encoder) + i for i, w in enumerate(ADDED)})
        self.unknown = self.encoder["<|endoftext|>"]
        # \p{L} and \p{N} of Unicode 14, whatever the version of the regex module
        kinds = {k: "".join(chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == k) for k in "LN"}
        kinds = {k: re.sub(r"([\\\]^\[&|~-])", r"\\\1", v) for k, v in kinds.items()}
        self.pattern = regex.compile(
            r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)|[%(L)s]+|[%(N)s]|[^\s%(L)s%(N)s]+" % kinds)
        self.split = re.compile("(" + "|".join(re.escape(w) for w in self.special) + ")")

    def pieces(self, token):
        word = [*token[:-1], token[-1] + "</w>"]
        while len(word) > 1:
            best = min(zip(word, word[1:]), key=lambda p: self.ranks.get(p, float("inf")))
            if best not in self.ranks:
                break
            out, i = [], 0
            while i < len(word):
                if i + 1 < len(word) and (word[i], word[i + 1]) == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            word = out
        return word

    def ids(self, text):
        out = []
        for part in self.split.split(text):
            if part in self.special:
                out.append(self.special[part])
                continue
            part = regex.sub(r"\s+", " ", ftfy.fix_text(part)).strip().lower()
            for token in self.pattern.findall(part):
                if token in SPECIAL:
                    out.append(self.special[token])
                    continue
                spelled = "".join(self.letters[b] for b in token.encode())
                out += [self.encoder.get(p, self.unknown) for p in self.pieces(spelled)]
        return out


def odd_characters():
    sets = {**MOJIBAKE_CATEGORIES, **UTF8_CLUES}
    pattern = re.compile("[" + "".join(sets.values()) + "]")
    return [chr(c) for c in range(0x10000) if pattern.match(chr(c))]


WORDS = ("a photo of the cat's dog café naïve Ångström straße Привет мир ΣΊΣΥΦΟΣ λόγος 日本語 한국어 😀 👩‍👧 don't we'll “quoted” "
         "‘it’s’ – — … € £5 ½ x² ﬁne ﬂow Ｆｕｌｌ ｶﾞｷﾞ à às àquele là été Ørsted İstanbul Iı ŉ ǅ ſ 'ſ K Å e\u0301 a\u0323\u0302 "
         "<new1> <new2> <NEW1> <|endoftext|> <|STARTOFTEXT|> <|startoftext|> &amp; &lt; &#233; &#xE9; &eacute; &EACUTE; "
         "&amp;amp;lt; &#0; &#59; &#x81; &#xD800; &nosuch; &notit; &hearts; \x1b[31m \r\n \r \n \t \u2028 \x85 \xa0 \xad "
         "\u200b \ufeff \ufffd \x1a \x00 \x07 hello!!! 3.14 ... ,,, 's 're'd x'll_").split(" ") + [" ", " ", " ", "  "]
ODD = odd_characters()
PAGES = [p for p in CHARMAP_ENCODINGS] + ["sloppy-windows-1252"] * 3 + ["latin-1"] * 2
BYTES_ENTITIES = sorted(HTML_ENTITIES)


def garble(text, rng):
    """UTF-8 read in a code page, perhaps twice, with the usual accidents."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data = text.encode("utf-8")
        if rng.random() < 0.15:
            data = text.encode("utf-16", "surrogatepass")
            data = b"".join(chr(data[i] | data[i + 1] << 8).encode("utf-8", "surrogatepass")
                            for i in range(2, len(data) - 1, 2))
        if rng.random() < 0.2:
            data = data.replace(b"\xa0", b" ")
        if rng.random() < 0.1:
            data = data.replace(b"\x00", b"\xc0\x80")
        text = data.decode(rng.choice(PAGES), "replace")
        if rng.random() < 0.15 and text:
            i = rng.randrange(len(text))
            text = text[:i] + rng.choice(["?", "\ufffd", "\x1a", " ", "", "\n"]) + text[i + 1:]
    return text


def make(rng):
    kind = rng.randrange(8)
    if kind == 0:
        return "".join(rng.choice(ODD) for _ in range(rng.randrange(1, 12)))
    if kind == 1:
        return "".join(rng.choice([rng.choice(ODD), rng.choice("abcXYZ .,?!\n"), rng.choice(WORDS)])
                       for _ in range(rng.randrange(1, 15)))
    if kind == 2:
        return "".join(chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x110000)])) for _ in range(20)
                       ).encode("utf-8", "replace").decode("utf-8")
    if kind == 3:
        return " ".join(rng.choice([rng.choice(BYTES_ENTITIES), "&#%d;" % rng.randrange(0x120), rng.choice(WORDS),
                                    "&#x%x;" % rng.randrange(0x111000), rng.choice(BYTES_ENTITIES)[:-1] + "x"])
                        for _ in range(6))
    text = "".join(rng.choice(WORDS) + rng.choice(["", " "]) for _ in range(rng.randrange(1, 9)))
    if kind == 4:
        return text
    if kind == 5:
        return text + garble("".join(rng.choice(WORDS) for _ in range(3)), rng)
    return garble(text, rng)


def main():
    program, folder = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 5000
    rng = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    slow = Slow(folder)
    raws = []
    while len(raws) < count:
        raw = make(rng).encode("utf-8", "replace")
        if rng.random() < 0.05:
            raw = bytes(rng.randrange(256) if rng.random() < 0.1 else b for b in raw)
        raws.append(raw)
    run = subprocess.run([program, folder, *ADDED], input="".join(r.hex() + "\n" for r in raws), text=True,
                         capture_output=True, check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == count
    wrong = 0
    for raw, got in zip(raws, answers):
        text = raw.decode("utf-8", "replace")
        fixed = ftfy.fix_text(text)
        ids = slow.ids(text)
        for key, want, have in [("fixed", fixed, bytes.fromhex(got["fixed"]).decode()),
                                ("lower", fixed.lower(), bytes.fromhex(got["lower"]).decode()),
                                ("n", len(ids), got["n"]), ("ids", ids[:75], got["ids"][1:1 + len(ids[:75])])]:
            if want != have:
                wrong += 1
                print("%s of %r\n  want %r\n  have %r" % (key, text, want, have))
                break
    print("%d texts, %d changed by ftfy, %d differ" % (
        count, sum(ftfy.fix_text(r.decode("utf-8", "replace")) != r.decode("utf-8", "replace") for r in raws), wrong))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
