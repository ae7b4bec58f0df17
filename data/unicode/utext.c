/* Growth by doubling; UTF-8 as RFC 3629 has it: shortest forms only, no surrogates, nothing above U+10FFFF. */
#include "data/unicode/utext.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

static void room_for(utext *t, size_t more)
{
    if (t->room - t->n >= more)
        return;
    t->room = t->room < 32 ? 32 : t->room;
    while (t->room - t->n < more)
        t->room *= 2;
    t->at = mem_grow(t->at, t->room, sizeof *t->at);
}

void utext_put(utext *t, uint32_t c)
{
    room_for(t, 1);
    t->at[t->n++] = c;
}

void utext_add(utext *t, const uint32_t *at, size_t n)
{
    if (n == 0)
        return;
    room_for(t, n);
    memcpy(t->at + t->n, at, n * sizeof *at);
    t->n += n;
}

void utext_free(utext *t)
{
    free(t->at);
    *t = (utext){0};
}

void utext_swap(utext *a, utext *b)
{
    const utext c = *a;

    *a = *b;
    *b = c;
}

bool utext_same(const utext *a, const utext *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->at, b->at, a->n * sizeof *a->at) == 0);
}

/* Bounds of the second byte (Unicode 14, table 3-7); the later ones are 80..BF. Returns the length, 0: no lead. */
static size_t lead(unsigned char b, unsigned char *least, unsigned char *most)
{
    *least = b == 0xE0 ? 0xA0 : b == 0xF0 ? 0x90 : 0x80;
    *most = b == 0xED ? 0x9F : b == 0xF4 ? 0x8F : 0xBF;
    return b >= 0xC2 && b <= 0xDF ? 2 : b >= 0xE0 && b <= 0xEF ? 3 : b >= 0xF0 && b <= 0xF4 ? 4 : 0;
}

size_t utf8_step(const unsigned char *at, size_t n, uint32_t *c, size_t *bad)
{
    unsigned char least, most;
    size_t length, i;

    if (at[0] < 0x80) {
        *c = at[0];
        return 1;
    }
    length = lead(at[0], &least, &most);
    *c = length ? at[0] & (0x7FU >> length) : 0;
    for (i = 1; i < length && i < n && at[i] >= least && at[i] <= most; i++) {
        *c = *c << 6 | (at[i] & 0x3FU);
        least = 0x80;
        most = 0xBF;
    }
    if (length && i == length)
        return length;
    if (bad)
        *bad = i;
    return 0;
}

void utext_add_utf8(utext *t, const char *bytes, size_t n)
{
    const unsigned char *at = (const unsigned char *)bytes;
    size_t bad;
    uint32_t c;

    for (size_t i = 0; i < n;) {
        const size_t step = utf8_step(at + i, n - i, &c, &bad);

        utext_put(t, step ? c : UTEXT_LOST);
        i += step ? step : bad;
    }
}

void utext_to_utf8(const uint32_t *at, size_t n, str *out)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t c = at[i];
        const size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        unsigned char b[4];

        for (size_t k = length - 1; k > 0; k--)
            b[k] = (unsigned char)(0x80 | ((c >> 6 * (length - 1 - k)) & 0x3F));
        b[0] = (unsigned char)(length == 1 ? c : (0xF00U >> length & 0xFF) | c >> 6 * (length - 1));
        str_put(out, b, length);
    }
}
