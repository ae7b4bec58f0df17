/* Mojibake: UTF-8 that was read in a single-byte code page. A text that looks bad is written back into each code
 * page that has all its characters and read as UTF-8, allowing for what happens to such text on its way (ftfy 6.3.1:
 * fix_encoding, restore_byte_a0, replace_lossy_sequences, utf-8-variants, decode_inconsistent_utf8). */
#include <string.h>

#include "data/unicode/ftfy_impl.h"

typedef unsigned char byte;

/* ---- patterns of bytes: a row holds places, a place ranges (first and last byte); NULL ends a row ---- */

#define SPACE "  "
#define ASK "??"
#define LOST "\x1A\x1A" /* the byte of U+FFFD */
#define NEXT "\x80\xBF"
#define NEXT_BUT_SPACES "\x80\x84\x86\x9F\xA1\xBF"
enum { PLACES = 7 };
typedef const char *const byte_row[PLACES];

/* UTF-8, had a no-break space (A0) not become a common one; only what is likely to be meant. */
static byte_row SPACED[] = {
    {"\xC2\xC3\xC5\xC5\xCE\xCE\xD0\xD0\xD9\xD9", SPACE},
    {"\xE2\xE3", SPACE, NEXT_BUT_SPACES},
    {"\xE0\xE3", NEXT_BUT_SPACES, SPACE},
    {"\xF0\xF0", SPACE, NEXT, NEXT},
    {"\xF0\xF0", NEXT, SPACE, NEXT},
    {"\xF0\xF0", NEXT, NEXT, SPACE},
};
/* UTF-8 (and pairs of surrogates in it) of which bytes are lost; one of them may have become a question mark. */
static byte_row LOSSY[] = {
    {"\xC2\xDF", LOST},
    {"\xC2\xC3", ASK},
    {"\xED\xED", "\xA0\xAF", LOST ASK, "\xED\xED", "\xB0\xBF", LOST ASK NEXT},
    {"\xED\xED", "\xA0\xAF", LOST ASK NEXT, "\xED\xED", "\xB0\xBF", LOST ASK},
    {"\xE0\xEF", LOST ASK, LOST NEXT},
    {"\xE0\xEF", LOST NEXT, LOST ASK},
    {"\xF0\xF4", LOST ASK, LOST NEXT, LOST NEXT},
    {"\xF0\xF4", LOST NEXT, LOST ASK, LOST NEXT},
    {"\xF0\xF4", LOST NEXT, LOST NEXT, LOST ASK},
    {LOST},
};

static bool in_ranges(const char *ranges, byte b)
{
    for (const byte *r = (const byte *)ranges; *r; r += 2)
        if (b >= r[0] && b <= r[1])
            return true;
    return false;
}

/* Bytes that the first fitting row takes at the beginning of at; 0: none fits. */
static size_t row_length(byte_row *rows, size_t n_rows, const byte *at, size_t n)
{
    if (at[0] < 0x80 && at[0] != LOST[0])
        return 0;
    for (size_t r = 0; r < n_rows; r++) {
        size_t i = 0;

        while (i < PLACES && rows[r][i] && i < n && in_ranges(rows[r][i], at[i]))
            i++;
        if (!rows[r][i])
            return i;
    }
    return 0;
}

/* ---- bytes to bytes ---- */

static bool begins(const byte *at, size_t n, const char *text)
{
    const size_t length = strlen(text);

    return n >= length && memcmp(at, text, length) == 0;
}

/* "Ã la mode": a word of its own, but in Portuguese "às", "àquele", ..., where no space follows. */
static bool is_word_a_grave(const byte *at, size_t n)
{
    return begins(at, n, "\xC3 ") && !begins(at + 2, n - 2, " ") && !begins(at + 2, n - 2, "quele") &&
           !begins(at + 2, n - 2, "quela") && !begins(at + 2, n - 2, "quilo") && !begins(at + 2, n - 2, "s ");
}

static void restore_a_grave(str *to, const str *from)
{
    const byte *at = (const byte *)from->at;

    for (size_t i = 0; i < from->n; i++) {
        str_put(to, at + i, 1);
        if (is_word_a_grave(at + i, from->n - i))
            str_put(to, "\xA0", 1);
    }
}

static void restore_spaces(str *to, const str *from)
{
    const byte *at = (const byte *)from->at;

    for (size_t i = 0, length; i < from->n; i += length) {
        length = row_length(SPACED, sizeof SPACED / sizeof *SPACED, at + i, from->n - i);
        for (size_t k = 0; k < length; k++)
            str_put(to, at[i + k] == ' ' ? "\xA0" : from->at + i + k, 1);
        if (length == 0) {
            str_put(to, at + i, 1);
            length = 1;
        }
    }
}

static void replace_lossy(str *to, const str *from)
{
    const byte *at = (const byte *)from->at;

    for (size_t i = 0, length; i < from->n; i += length) {
        length = row_length(LOSSY, sizeof LOSSY / sizeof *LOSSY, at + i, from->n - i);
        if (length > 0) {
            str_put(to, "\xEF\xBF\xBD", 3); /* U+FFFD */
        } else {
            str_put(to, at + i, 1);
            length = 1;
        }
    }
}

/* bytes = change(bytes) */
static void transcode(str *bytes, void (*change)(str *to, const str *from))
{
    str to = {0};

    change(&to, bytes);
    str_free(bytes);
    *bytes = to;
}

/* ---- between text and bytes ---- */

/* The byte of c in a page, or -1. */
static int byte_of(const ftfy_page *page, uint32_t c)
{
    size_t low = 0, high = FTFY_CELLS;

    if (c < 0x80 && c != (byte)LOST[0])
        return (int)c;
    while (low < high) {
        const size_t mid = (low + high) / 2;

        if (c > page->cell[mid].c)
            low = mid + 1;
        else
            high = mid;
    }
    return low < FTFY_CELLS && page->cell[low].c == c ? page->cell[low].byte : -1;
}

static bool encode(str *bytes, const utext *text, const ftfy_page *page)
{
    for (size_t i = 0; i < text->n; i++) {
        const int b = byte_of(page, text->at[i]);
        const byte one = (byte)b;

        if (b < 0)
            return false;
        str_put(bytes, &one, 1);
    }
    return true;
}

static bool is_next(byte b)
{
    return b >= 0x80 && b <= 0xBF;
}

/* Two things UTF-8 forbids and Java and CESU-8 write: U+0000 as C0 80, and a pair of surrogates in three bytes each.
 * The codec we follow lets a line feed at the very end stand for the last byte; so does this. */
static size_t variant_step(const byte *at, size_t n, uint32_t *c)
{
    if (at[0] == 0xC0 && n >= 2 && (at[1] == 0x80 || (at[1] == '\n' && n == 2))) {
        *c = 0;
        return 2;
    }
    if (n < 6 || at[0] != 0xED || at[1] < 0xA0 || at[1] > 0xAF || !is_next(at[2]) || at[3] != 0xED || at[4] < 0xB0 ||
        at[4] > 0xBF || !(is_next(at[5]) || (at[5] == '\n' && n == 6)))
        return 0;
    *c = 0x10000 + ((at[1] & 0x0FU) << 16) + ((at[2] & 0x3FU) << 10) + ((at[4] & 0x0FU) << 6) + (at[5] & 0x3FU);
    return 6;
}

static bool decode(utext *text, const str *bytes)
{
    const byte *at = (const byte *)bytes->at;
    uint32_t c;

    for (size_t i = 0, step; i < bytes->n; i += step) {
        step = variant_step(at + i, bytes->n - i, &c);
        if (step == 0)
            step = utf8_step(at + i, bytes->n - i, &c, NULL);
        if (step == 0)
            return false;
        utext_put(text, c);
    }
    return true;
}

/* ---- one step ---- */

/* The text, had it been read as UTF-8 rather than in this page; false: it is none. */
static bool reread(utext *to, const utext *text, const ftfy_page *page)
{
    str bytes = {0};
    bool good = encode(&bytes, text, page);

    if (good && !page->macroman) { /* there C3 is a root sign, D0 an en dash: spaces follow them */
        transcode(&bytes, restore_a_grave);
        transcode(&bytes, restore_spaces);
    }
    if (good && page->sloppy)
        transcode(&bytes, replace_lossy);
    good = good && decode(to, &bytes);
    str_free(&bytes);
    return good;
}

static bool all_in(const uint32_t *at, size_t n, uint32_t classes)
{
    for (size_t i = 0; i < n; i++)
        if (!(ftfy_classes(at[i]) & classes))
            return false;
    return true;
}

/* Characters at the beginning of at that look like one character of UTF-8; 0: none. */
static size_t suspect(const uint32_t *at, size_t n)
{
    static const uint32_t FIRST[] = {FIRST_OF_2, FIRST_OF_3, FIRST_OF_4};

    for (size_t k = 0; k < 3; k++)
        if (n >= k + 2 && all_in(at, 1, FIRST[k]) && all_in(at + 1, k + 1, CONTINUES))
            return k + 2;
    return 0;
}

/* The same for as many as follow each other. */
static size_t suspects(const utext *text, size_t at)
{
    size_t n = 0, step;

    if (at > 0 && (ftfy_classes(text->at[at - 1]) & CONTINUES_ONLY))
        return 0;
    while ((step = suspect(text->at + at + n, text->n - at - n)) > 0)
        n += step;
    return n;
}

/* Text of several encodings: repairs what looks like UTF-8, each stretch alone. */
static void decode_inconsistent(utext *to, const utext *text, uint64_t *work)
{
    for (size_t i = 0, n; i < text->n; i += n) {
        n = suspects(text, i);
        if (n > 0 && n < text->n && ftfy_is_bad(text->at + i, n)) {
            utext part = {0};

            utext_add(&part, text->at + i, n);
            ftfy_encoding(&part, work); /* shorter than text: the nesting ends */
            utext_add(to, part.at, part.n);
            utext_free(&part);
        } else {
            n = n > 0 ? n : 1;
            utext_add(to, text->at + i, n);
        }
    }
}

uint32_t ftfy_c1(uint32_t c)
{
    const ftfy_page *windows_1252 = &FTFY_PAGES[1];

    if (c < 0x80 || c > 0x9F)
        return c;
    for (size_t i = 0; i < FTFY_CELLS; i++)
        if (windows_1252->cell[i].byte == c)
            return windows_1252->cell[i].c;
    return c;
}

static bool is_ascii(const utext *text)
{
    for (size_t i = 0; i < text->n; i++)
        if (text->at[i] >= 0x80)
            return false;
    return true;
}

/* The better text of a bad one in *to. */
static void better(utext *to, const utext *text, uint64_t *work)
{
    for (size_t p = 0; p < FTFY_PAGES_N; p++) {
        if (reread(to, text, &FTFY_PAGES[p]))
            return;
        to->n = 0;
    }
    decode_inconsistent(to, text, work);
    if (!utext_same(to, text))
        return;
    for (size_t i = 0; i < to->n; i++)
        to->at[i] = ftfy_c1(to->at[i]);
}

void ftfy_encoding(utext *text, uint64_t *work)
{
    bool changed = true;

    while (changed && *work >= text->n && !is_ascii(text) && ftfy_is_bad(text->at, text->n)) {
        utext to = {0};

        *work -= text->n;
        better(&to, text, work);
        changed = !utext_same(&to, text);
        utext_swap(&to, text);
        utext_free(&to);
    }
}
