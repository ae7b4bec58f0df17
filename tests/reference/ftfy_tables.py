"""Writes data/unicode/ftfy_tables.c and data/unicode/html_entities.c: facts about characters, taken from Python's
codecs and html module and from the character categories of ftfy 6.3.1.

    python3 tests/reference/ftfy_tables.py data/unicode        (needs: ftfy==6.3.1)

Run by hand; the C files are committed. The names of the bits are those of data/unicode/ftfy_impl.h.
"""
import re
import sys

import ftfy.bad_codecs
from ftfy.badness import MOJIBAKE_CATEGORIES
from ftfy.chardata import CHARMAP_ENCODINGS, HTML_ENTITIES, UTF8_CLUES

ftfy.bad_codecs.ok()
LIMIT = 0x10000  # no class or code page reaches beyond

CLASS_BITS = {
    "common": "COMMON", "c1": "C1", "bad": "BAD", "law": "LAW", "currency": "CURRENCY",
    "start_punctuation": "OPENING", "end_punctuation": "CLOSING", "numeric": "NUMERIC", "kaomoji": "KAOMOJI",
    "upper_accented": "UPPER_ACCENT", "lower_accented": "LOWER_ACCENT", "upper_common": "UPPER_COMMON",
    "lower_common": "LOWER_COMMON", "box": "BOX", "utf8_first_of_2": "FIRST_OF_2", "utf8_first_of_3": "FIRST_OF_3",
    "utf8_first_of_4": "FIRST_OF_4", "utf8_continuation": "CONTINUES", "utf8_continuation_strict": "CONTINUES_ONLY",
}


def classes():
    """Ranges (first, last, bits) of code points with the same, not empty, set of bits."""
    sets = {CLASS_BITS[k]: re.compile("[%s]" % v) for k, v in {**MOJIBAKE_CATEGORIES, **UTF8_CLUES}.items()}
    out = []
    for c in range(LIMIT):
        bits = tuple(name for name, pattern in sets.items() if pattern.match(chr(c)))
        if out and out[-1][1] == c - 1 and out[-1][2] == bits:
            out[-1][1] = c
        elif bits:
            out.append([c, c, bits])
    return out


def code_page(name):
    """(code point, byte) of the bytes 0x80 to 0xff and of 0x1a, by code point."""
    for b in set(range(0x80)) - {0x1A}:
        assert bytes([b]).decode(name) == chr(b), (name, b)
    pairs = [(ord(bytes([b]).decode(name)), b) for b in [0x1A, *range(0x80, 0x100)]]
    assert len({c for c, _ in pairs}) == len(pairs)
    return sorted(pairs)


def wrap(items, width=118):
    lines, line = [], "   "
    for item in items:
        if len(line) + 1 + len(item) > width:
            lines.append(line)
            line = "   "
        line += " " + item
    return "\n".join(lines + [line])


def write_tables(path):
    rows = ["{0x%04X, 0x%04X, %s}," % (a, b, " | ".join(bits)) for a, b, bits in classes()]
    with open(path, "w", encoding="utf-8") as out:
        out.write("/* Written by tests/reference/ftfy_tables.py: which characters take part in mojibake, and the code\n"
                  " * pages it comes from. Not edited by hand. */\n#include \"data/unicode/ftfy_impl.h\"\n\n")
        out.write("const ftfy_range FTFY_CLASSES[] = {\n%s\n};\n" % "\n".join("    " + r for r in rows))
        out.write("const size_t FTFY_CLASSES_N = sizeof FTFY_CLASSES / sizeof *FTFY_CLASSES;\n\n")
        out.write("const ftfy_page FTFY_PAGES[FTFY_PAGES_N] = {\n")
        for name in CHARMAP_ENCODINGS:
            flags = ", .sloppy = true" if name.startswith("sloppy-") else ""
            flags += ", .macroman = true" if name == "macroman" else ""
            cells = ["{0x%04X, 0x%02X}," % pair for pair in code_page(name)]
            out.write("    {.name = \"%s\"%s, .cell = {\n%s\n    }},\n" % (name, flags, wrap(cells)))
        out.write("};\n")


def write_entities(path):
    items = []
    for name, value in sorted(HTML_ENTITIES.items(), key=lambda kv: kv[0][1:-1].encode()):
        assert name[0] == "&" and name[-1] == ";" and len(value) <= 3
        items.append("{\"%s\", {%s}}," % (name[1:-1], ", ".join("0x%X" % ord(c) for c in value)))
    with open(path, "w", encoding="utf-8") as out:
        out.write("/* Written by tests/reference/ftfy_tables.py: the named character references of HTML 5 and the\n"
                  " * capitals ftfy accepts besides, by name. Not edited by hand. */\n"
                  "#include \"data/unicode/ftfy_impl.h\"\n\nconst ftfy_entity FTFY_ENTITIES[] = {\n%s\n};\n"
                  "const size_t FTFY_ENTITIES_N = sizeof FTFY_ENTITIES / sizeof *FTFY_ENTITIES;\n" % wrap(items))


write_tables(sys.argv[1] + "/ftfy_tables.c")
write_entities(sys.argv[1] + "/html_entities.c")
