/* The order of the repairs, and the small ones: most change single characters (ftfy 6.3.1: fix_text, fixes). */
#include "data/unicode/ftfy.h"

#include <stdlib.h>
#include <unictype.h>
#include <uninorm.h>

#include "cluster/base/err.h"
#include "data/unicode/ftfy_impl.h"

enum { SEGMENT = 1000 * 1000 }; /* characters repaired together at most */

/* ---- one character at a time ---- */

static void put_c1(utext *to, uint32_t c)
{
    utext_put(to, ftfy_c1(c));
}

static void put_ligature(utext *to, uint32_t c)
{
    static const struct { uint32_t c; const uint32_t *parts; } ROWS[] = {
        {0x132, U"IJ"}, {0x133, U"ij"}, {0x149, U"ʼn"}, {0x1F1, U"DZ"}, {0x1F2, U"Dz"}, {0x1F3, U"dz"},
        {0x1C4, U"DŽ"}, {0x1C5, U"Dž"}, {0x1C6, U"dž"}, {0x1C7, U"LJ"}, {0x1C8, U"Lj"}, {0x1C9, U"lj"},
        {0x1CA, U"NJ"}, {0x1CB, U"Nj"}, {0x1CC, U"nj"}, {0xFB00, U"ff"}, {0xFB01, U"fi"}, {0xFB02, U"fl"},
        {0xFB03, U"ffi"}, {0xFB04, U"ffl"}, {0xFB05, U"ſt"}, {0xFB06, U"st"},
    };

    for (size_t i = 0; c >= ROWS[0].c && i < sizeof ROWS / sizeof *ROWS; i++)
        if (ROWS[i].c == c) {
            for (const uint32_t *part = ROWS[i].parts; *part; part++)
                utext_put(to, *part);
            return;
        }
    utext_put(to, c);
}

/* Full-width letters, half-width kana and the ideographic space in their usual width. */
static void put_width(utext *to, uint32_t c)
{
    uint32_t usual[8];
    size_t n = sizeof usual / sizeof *usual;

    if (c == 0x3000)
        utext_put(to, ' ');
    else if (c < 0xFF01 || c > 0xFFEF)
        utext_put(to, c);
    else {
        CHECK(u32_normalize(UNINORM_NFKC, &c, 1, usual, &n) == usual);
        utext_add(to, usual, n);
    }
}

static void put_quote(utext *to, uint32_t c)
{
    const bool single = c == 0x2BC || (c >= 0x2018 && c <= 0x201B);

    utext_put(to, single ? '\'' : c >= 0x201C && c <= 0x201F ? '"' : c);
}

static void put_printable(utext *to, uint32_t c)
{
    if (!(c < 0x09 || c == 0x0B || (c >= 0x0E && c < 0x20) || c == 0x7F || (c >= 0x206A && c <= 0x206F) ||
          c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC)))
        utext_put(to, c);
}

/* text = put(each character of it) */
static void each(utext *text, void (*put)(utext *to, uint32_t c))
{
    utext to = {0};

    for (size_t i = 0; i < text->n; i++)
        put(&to, text->at[i]);
    utext_swap(text, &to);
    utext_free(&to);
}

/* ---- sequences ---- */

static void fix_line_breaks(utext *to, const utext *from)
{
    for (size_t i = 0; i < from->n; i++) {
        const uint32_t c = from->at[i];

        if (c == '\r' && i + 1 < from->n && from->at[i + 1] == '\n')
            continue;
        utext_put(to, c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85 ? '\n' : c);
    }
}

/* The length of ESC [ 36;44 m at the beginning of at; 0: none. */
static size_t terminal_escape(const uint32_t *at, size_t n)
{
    size_t i = 2;

    if (n < 3 || at[0] != 0x1B || at[1] != '[')
        return 0;
    while (i < n && (at[i] == ';' || uc_is_general_category_withtable(at[i], UC_CATEGORY_MASK_Nd)))
        i++;
    return i < n && ((at[i] | 0x20U) >= 'a' && (at[i] | 0x20U) <= 'z') ? i + 1 : 0;
}

static void remove_terminal_escapes(utext *to, const utext *from)
{
    for (size_t i = 0; i < from->n;) {
        const size_t length = terminal_escape(from->at + i, from->n - i);

        if (length == 0)
            utext_put(to, from->at[i]);
        i += length > 0 ? length : 1;
    }
}

static void compose(utext *to, const utext *from)
{
    size_t n = 0;
    uint32_t *composed = u32_normalize(UNINORM_NFC, from->at, from->n, NULL, &n);

    CHECK(composed || from->n == 0);
    utext_add(to, composed, n);
    free(composed);
}

/* text = change(text) */
static void apply(utext *text, void (*change)(utext *to, const utext *from))
{
    utext to = {0};

    change(&to, text);
    utext_swap(text, &to);
    utext_free(&to);
}

/* ---- order ---- */

static void fix_once(utext *text, bool unescape, uint64_t *work)
{
    if (unescape)
        apply(text, ftfy_unescape);
    ftfy_encoding(text, work);
    each(text, put_c1);
    each(text, put_ligature);
    each(text, put_width);
    each(text, put_quote);
    apply(text, fix_line_breaks);
    apply(text, remove_terminal_escapes); /* surrogates, which come before, are no UTF-8 and cannot be here */
    each(text, put_printable);
    apply(text, compose);
}

static void fix_segment(utext *to, const uint32_t *at, size_t n, bool unescape, uint64_t *work)
{
    utext text = {0}, before = {0};

    utext_add(&text, at, n);
    do {
        *work -= *work < text.n ? *work : text.n;
        before.n = 0;
        utext_add(&before, text.at, text.n);
        fix_once(&text, unescape, work);
    } while (!utext_same(&text, &before) && *work > 0);
    utext_add(to, text.at, text.n);
    utext_free(&before);
    utext_free(&text);
}

static size_t find(const uint32_t *at, size_t n, uint32_t c)
{
    size_t i = 0;

    while (i < n && at[i] != c)
        i++;
    return i;
}

void ftfy_fix(utext *text, uint64_t *work)
{
    bool unescape = true; /* until a "<" tells that this is HTML */
    utext to = {0};

    for (size_t i = 0, n; i < text->n; i += n) {
        const size_t left = text->n - i;

        n = find(text->at + i, left, '\n');
        n = n < left ? n + 1 : left;
        n = n < SEGMENT ? n : SEGMENT;
        unescape = unescape && find(text->at + i, n, '<') == n;
        fix_segment(&to, text->at + i, n, unescape, work);
    }
    utext_swap(text, &to);
    utext_free(&to);
}
