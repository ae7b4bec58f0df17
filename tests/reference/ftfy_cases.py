"""Writes tests/data/ftfy.json: [text, what ftfy 6.3.1 makes of it, that in lower case], for test_tokenizer.

    python3 tests/reference/ftfy_cases.py > tests/data/ftfy.json        (needs: ftfy==6.3.1, regex; Python 3.11)
"""
import json
import random

import ftfy

from tokenizer_oracle import WORDS, garble, make

CHOSEN = [
    "caf\u00c3\u00a9", "schÃ¶n", "âœ” No problems", "&macr;\\_(ã\x83\x84)_/&macr;", "Broken text&hellip; it&#x2019;s ﬂubberiﬁc!",
    "ＬＯＵＤ　ＮＯＩＳＥＳ", "ﾊﾝｶｸ ｶﾞｷﾞ", "voilÃ le travail", "Ã la mode", "Ã  la mode", "Ã s vezes Ãquele", "â€œ like this â€\ufffd",
    "P&EACUTE;REZ BUNDESSTRA&SZLIG;E &nTILDE; &SUP2;", "&lt;b&gt; &amp;lt; &amp;amp;amp;lt;", "<b> &amp; stays", "a\n<b>\n&amp;",
    "&amp;\n<b>", "&#59; &#0; &#13; &#128; &#129; &#55296; &#1114112; &#99999999999999999999; &#xFDD0; &#x; &#xg; &#12a;",
    "\x1b[36;44mI'm blue\x1b[0m \x1b[٣m \x1b[;x", "a\r\nb\rc\u2028d\u2029e\x85f", "\ufeffa\u206ab\ufff9c\ufffcd\x07e\x7ff",
    "“a” ‘b’ ‚c‘ „d“ ʼn ŉ", "ĳ Ĳ ǆ ǅ Ǆ ǲ ﬀ ﬁ ﬂ ﬃ ﬄ ﬅ ﬆ", "e\u0301 a\u0323\u0302 \u1100\u1161\u11a8 \u2126",
    "\x93smart\x94 \x80 \x81", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "Ã¢â‚¬â€œ", "Ã\u0192Â©", "ðŸ˜€", "í\xa0½í¸\x80", "À\x80 Ã©", "Ã©À\n", "в‚¬ вЂ™", "β€™ ΓƒΒ©",
    "√© ‚Äô", "├⌐ Γé¼", "à¤¨à¤®à¤¸à¥\x8dà¤¤à¥‡", "×©×œ×•×\x9d", "ç\x8c« pas de problÃ¨me été", "Â£10 Â©", "a Â b", "x Ã y", "naïve café 5 €",
    "ΟΔΥΣΣΕΥΣ ΑΣ. Σ ΣΑΣ\u0301 \u02bcΣ aΣ\u0301b", "İI\u0307ı ẞß ǅ", "\ud7a3\uac00", "\U0001f600\U000e0067", "",
]
rng = random.Random(7)
texts = CHOSEN + [make(rng) for _ in range(120)] + [garble(rng.choice(WORDS) + rng.choice(WORDS), rng) for _ in range(120)]
rows = [t.encode("utf-8", "replace").decode() for t in texts if "\x00" not in t]
print("[\n" + ",\n".join(json.dumps([t, ftfy.fix_text(t), ftfy.fix_text(t).lower()]) for t in dict.fromkeys(rows)) + "\n]")
