/* Does a text look like mojibake? Sequences of two to five characters which hardly occur otherwise, one row each
 * (ftfy 6.3.1, badness.BADNESS_RE). A row matches where each of its places holds a character of one of the classes,
 * or one of the characters listed. */
#include <string.h>
#include <unictype.h>

#include "data/unicode/ftfy_impl.h"

typedef struct {
    uint32_t classes;
    const uint32_t *list; /* U"..."; NULL: none */
} place;

enum {
    ACCENT = LOWER_ACCENT | UPPER_ACCENT,
    AZ = AZ_SMALL | AZ_LARGE,
    BESIDE_BAD = ACCENT | BOX | OPENING | CLOSING | CURRENCY | NUMERIC | LAW,
    ARABIC = COMMON | CURRENCY | BAD | NUMERIC | OPENING,
    CYRILLIC = C1 | BAD | OPENING | CLOSING | CURRENCY
};
#define IN(classes) {(classes), NULL}
#define ONE(list) {0, U##list}
#define EITHER(classes, list) {(classes), U##list}

static const place RULES[][6] = { /* a place {0, NULL} ends a row */
    {IN(C1)},
    {IN(BAD | BESIDE_BAD), IN(BAD)},
    {IN(AZ), IN(LOWER_COMMON | UPPER_COMMON), IN(BAD)},
    {IN(BAD), IN(BESIDE_BAD)},
    {IN(LOWER_ACCENT | LOWER_COMMON | BOX | CLOSING | CURRENCY | NUMERIC), IN(UPPER_ACCENT)},
    {IN(BOX | CLOSING | CURRENCY | NUMERIC), IN(LOWER_ACCENT)},
    {IN(LOWER_ACCENT | BOX | CLOSING), IN(CURRENCY)},
    {IN(WHITE), IN(UPPER_ACCENT), IN(CURRENCY)},
    {IN(UPPER_ACCENT | BOX), IN(NUMERIC | LAW)},
    {IN(ACCENT | BOX | CURRENCY | CLOSING), IN(OPENING), IN(NUMERIC)},
    {IN(ACCENT | CURRENCY | NUMERIC | BOX | LAW), IN(CLOSING), IN(OPENING)},
    {IN(CURRENCY | NUMERIC | BOX), IN(OPENING)},
    {IN(AZ_SMALL), IN(UPPER_ACCENT), IN(OPENING | CURRENCY)},
    {IN(BOX), IN(KAOMOJI)},
    {IN(ACCENT | CURRENCY | NUMERIC | OPENING | CLOSING | LAW), IN(BOX)},
    {IN(BOX), IN(CLOSING)},
    {IN(ACCENT), IN(OPENING | CLOSING), IN(WORD)},
    {ONE("Œœ"), IN(NOT_AZ)},
    {IN(UPPER_ACCENT), ONE("°")},
    /* windows-1252: two characters; multiplication sign; Arabic, which takes four; South Asian scripts */
    {ONE("ÂÃÎÐ"), EITHER(OPENING | CLOSING, "€œŠš¢£Ÿž\u00a0\u00ad®©°·»–—´")},
    {ONE("×"), ONE("²³")},
    {ONE("ØÙ"), EITHER(ARABIC, "ŸŠ®°µ»"), ONE("ØÙ"), EITHER(ARABIC, "ŸŠ®°µ»")},
    {ONE("à"), ONE("²µ¹¼½¾")},
    /* MacRoman */
    {ONE("√"), ONE("±∂†≠®™´≤≥¥µø")},
    {ONE("≈"), ONE("°¢")},
    {ONE("‚"), ONE("Ä"), ONE("ìîïòôúùû†°¢π")},
    {ONE("‚"), ONE("âó"), ONE("àä°ê")},
    /* windows-1251: U+2000 to U+203F; letters; windows-1251 on top of Latin-1, beside a Latin letter */
    {ONE("в"), ONE("Ђ")},
    {ONE("ВГРС"), EITHER(CYRILLIC, "°µ"), ONE("ВГРС")},
    /* 'à', 'á', a no-break space in windows-1252, also with the space become a common one */
    {ONE("Ã"), ONE("\u00a0¡")},
    {IN(AZ_SMALL), ONE("ÃÂ"), ONE(" ")},
    {IN(AZ_SMALL), IN(WHITE), ONE("ÃÂ"), ONE(" ")},
    {EITHER(AZ_SMALL | CLOSING, ".,?!"), ONE("Â"), EITHER(OPENING | CLOSING, " ")},
    /* windows-1253 and windows-1257: U+2000 to U+203F; Greek letters */
    {ONE("β"), ONE("€"), ONE("™\u00a0Ά\u00ad®°")},
    {ONE("ΒΓΞΟ"), EITHER(CYRILLIC, "°"), ONE("ΒΓΞΟ")},
    {ONE("ā"), ONE("€")},
};
enum { RULES_N = sizeof RULES / sizeof *RULES };
/* The one row of six places, and the one that holds at the beginning only. */
static const place CYRILLIC_TWICE[] = {ONE("Г"), ONE("ў"), ONE("В"), ONE("Ђ"), ONE("В"), IN(NOT_NEWLINE), EITHER(AZ, " ")};
static const place FIRST[] = {ONE("ÃÂ"), ONE(" ")};

bool ftfy_is_white(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_word(uint32_t c)
{
    return c == '_' || uc_is_general_category_withtable(c, UC_CATEGORY_MASK_L | UC_CATEGORY_MASK_N);
}

static uint32_t pattern_classes(uint32_t c)
{
    const bool small = c >= 'a' && c <= 'z', large = c >= 'A' && c <= 'Z';

    return (small ? AZ_SMALL : 0U) | (large ? AZ_LARGE : 0U) | (small || large ? 0U : NOT_AZ) |
           (c == '\n' ? 0U : NOT_NEWLINE) | (ftfy_is_white(c) ? WHITE : 0U) | (is_word(c) ? WORD : 0U);
}

uint32_t ftfy_classes(uint32_t c)
{
    size_t low = 0, high = FTFY_CLASSES_N;

    while (low < high) {
        const size_t mid = (low + high) / 2;

        if (c > FTFY_CLASSES[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return pattern_classes(c) | (low < FTFY_CLASSES_N && c >= FTFY_CLASSES[low].first ? FTFY_CLASSES[low].classes : 0U);
}

static bool holds(const place *p, uint32_t c, uint32_t classes)
{
    const uint32_t *list = p->list;

    if (p->classes & classes)
        return true;
    while (list && *list)
        if (*list++ == c)
            return true;
    return false;
}

/* The first `most` places of a row, or all up to its end; classes[] as at[]. */
static bool matches(const place *row, size_t most, const uint32_t *at, const uint32_t *classes, size_t n)
{
    size_t i = 0;

    while (i < most && (row[i].classes || row[i].list)) {
        if (i == n || !holds(&row[i], at[i], classes[i]))
            return false;
        i++;
    }
    return true;
}

static bool any_rule(const uint32_t *at, const uint32_t *classes, size_t n)
{
    for (size_t r = 0; r < RULES_N; r++)
        if (matches(RULES[r], 6, at, classes, n))
            return true;
    return matches(CYRILLIC_TWICE, 7, at, classes, n);
}

bool ftfy_is_bad(const uint32_t *at, size_t n)
{
    enum { AHEAD = 7 }; /* places of the longest row */
    uint32_t classes[AHEAD + 1] = {0};
    size_t known = 0, beyond_ascii = 0; /* characters classified; the end of the last one above U+007F */

    for (size_t i = 0; i < n; i++) {
        const size_t left = n - i < AHEAD ? n - i : AHEAD;

        for (; known < i + left; known++) {
            classes[known - i] = ftfy_classes(at[known]);
            beyond_ascii = at[known] >= 0x80 ? known + 1 : beyond_ascii;
        }
        if (beyond_ascii > i && /* every row has a character above U+007F */
            (any_rule(at + i, classes, left) || (i == 0 && matches(FIRST, 2, at, classes, left))))
            return true;
        memmove(classes, classes + 1, AHEAD * sizeof *classes);
    }
    return false;
}
