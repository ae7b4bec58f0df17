"""Looks at a page of `cfarm report` as a parser sees it.

    report_page.py structure PAGE NAME...   well-formed, self-contained, ids unique, pictures whole, every NAME in its text
    report_page.py says PAGE TEXT...        every TEXT stands in it as text
    report_page.py columns PAGE A,B,C ...   the picture grids have exactly these columns
    report_page.py pairs PAGE               the blind test's pairs: two models each, pictures that are there, no name shown before
"""
import base64
import json
import re
import struct
import sys
import zlib
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "path", "circle", "rect", "polyline", "link", "hr", "input"}


class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.wrong, self.ids, self.text, self.scripts = [], [], [], [], []
        self.pictures, self.columns, self.links = {}, [], []
        self.blind = []

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if len(a) != len(attrs):
            self.wrong.append(f"an attribute twice in <{tag}>")
        if "id" in a:
            self.ids.append(a["id"])
        for name in ("src", "href", "action", "poster", "srcset"):
            value = a.get(name)
            if value is not None and not value.startswith(("data:image/png;base64,", "#")):
                self.wrong.append(f"<{tag} {name}={value[:60]!r}> leads out of the page")
        if any(name.startswith("on") for name in a):
            self.wrong.append(f"a handler in <{tag}>")
        if tag == "link":
            self.wrong.append("a <link>")
        if tag == "img":
            self.pictures[a["id"]] = a["src"]
        if tag == "a":
            self.links.append(a["href"])
        if tag == "script":
            self.scripts.append(a.get("type", ""))
        if tag == "table" and a.get("class") == "grid":
            self.columns.append([])
        if tag == "th" and a.get("scope") == "col":
            self.columns[-1].append("")
            self.open.append("column")
            return
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        last = self.open.pop() if self.open else "nothing"
        if last != tag and not (last == "column" and tag == "th"):
            self.wrong.append(f"</{tag}> ends <{last}> at {self.getpos()}")

    def handle_data(self, data):
        if self.open and self.open[-1] == "column":
            self.columns[-1][-1] += data
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)
        if self.open and self.open[-1] == "style" and re.search(r"url\(|@import", data):
            self.wrong.append("a style that fetches")


def png_whole(uri):
    data, at, body = base64.b64decode(uri.split(",", 1)[1], validate=True), 8, b""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return False
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        if zlib.crc32(data[at + 4:at + 8 + n]) != struct.unpack(">I", data[at + 8 + n:at + 12 + n])[0]:
            return False
        body += data[at + 8:at + 8 + n] if kind == b"IDAT" else b""
        at += 12 + n
    return kind == b"IEND" and len(zlib.decompress(body)) > 0


def structure(p, text, names):
    wrong = p.wrong + [f"<{tag}> is never ended" for tag in p.open]
    wrong += [f"id {i} twice" for i in set(p.ids) if p.ids.count(i) > 1]
    wrong += [f"a link to {link}, which is nowhere" for link in p.links if link[1:] not in p.ids]
    wrong += [f"picture {i} is not whole" for i, uri in p.pictures.items() if not png_whole(uri)]
    wrong += [f"{n} is not in the text" for n in names if n not in text]
    if p.scripts != ["application/json", ""]:
        wrong.append(f"scripts: {p.scripts}")
    return wrong


def columns(p, wanted):
    got = [",".join(c) for c in p.columns]
    return [] if got == list(wanted) else [f"columns {got}, wanted {list(wanted)}"]


def pairs(p, raw, text):
    found = json.loads(re.search(r'<script type="application/json" id="pairs">(.*?)</script>', raw, re.S).group(1))
    wrong = [] if found else ["no pair"]
    for x in found:
        ids = [x["left"], x["right"]] + x.get("own", [])
        wrong += [f"pair with a picture that is nowhere: {i}" for i in ids if i not in p.pictures]
        if x["a"] == x["b"] or x["left"] == x["right"]:
            wrong.append(f"a pair of one model: {x}")
        if x["asks"] not in ("text", "image") or (x["asks"] == "image") != ("own" in x):
            wrong.append(f"asks {x['asks']}")
    sides = {x["a"] for x in found} & {x["b"] for x in found}
    if len(sides) < 2:
        wrong.append(f"only {sides} stand on both sides")
    if [x["left"] for x in found] == sorted(x["left"] for x in found):
        wrong.append("the pairs stand in the order of the page")
    return wrong


def main():
    verb, path, *rest = sys.argv[1:]
    raw = open(path, encoding="utf-8").read()
    p = Page()
    p.feed(raw)
    p.close()
    text = "".join(p.text)
    wrong = {"structure": lambda: structure(p, text, rest), "says": lambda: [f"not said: {t}" for t in rest if t not in text],
             "columns": lambda: columns(p, rest), "pairs": lambda: pairs(p, raw, text)}[verb]()
    for w in wrong:
        print(f"{path}: {w}")
    return 1 if wrong else 0


sys.exit(main())
