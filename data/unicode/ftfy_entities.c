/* HTML's character references, those that end in a semicolon: named, decimal, hexadecimal (ftfy 6.3.1:
 * unescape_html over Python's html.unescape). */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "data/unicode/ftfy_impl.h"

enum { NAME_MOST = 24 };

static bool is_alnum(uint32_t c)
{
    return c < 0x80 && isalnum((int)c);
}

/* "&name;" at the beginning of at: the length of what stands between & and ;, copied as text; 0: none. */
static size_t reference(const uint32_t *at, size_t n, char name[NAME_MOST + 2])
{
    size_t i = 1, least;

    if (n > 1 && at[1] == '#')
        name[i++ - 1] = '#';
    least = i;
    while (i < n && i < least + NAME_MOST && is_alnum(at[i])) {
        name[i - 1] = (char)at[i];
        i++;
    }
    if (i == least || i == n || at[i] != ';')
        return 0;
    name[i - 1] = '\0';
    return i - 1;
}

static int by_name(const void *key, const void *entity)
{
    return strcmp(key, ((const ftfy_entity *)entity)->name);
}

static bool is_noncharacter(uint32_t c)
{
    return (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
}

/* What HTML 5 makes of a number: windows-1252 for C1 controls; nothing for controls and noncharacters. */
static void put_number(utext *to, unsigned long number)
{
    const uint32_t c = number > 0x10FFFF ? UTEXT_LOST : (uint32_t)number;

    if (c == 0 || (c >= 0xD800 && c <= 0xDFFF))
        utext_put(to, UTEXT_LOST);
    else if (c >= 0x80 && c <= 0x9F)
        utext_put(to, ftfy_c1(c));
    else if (!(c < 0x09 || c == 0x0B || (c >= 0x0E && c < 0x20) || c == 0x7F || is_noncharacter(c)))
        utext_put(to, c);
}

/* "#233", "#xE9"; false: no number, or the semicolon's, which is left for the eye. */
static bool put_numeric(utext *to, const char *name)
{
    const bool hex = name[1] == 'x' || name[1] == 'X';
    const char *digits = name + 1 + hex;
    char *end;
    unsigned long number;

    if (!(hex ? isxdigit((unsigned char)*digits) : isdigit((unsigned char)*digits)))
        return false;
    number = strtoul(digits, &end, hex ? 16 : 10); /* too large: ULONG_MAX */
    if (*end || number == ';')
        return false;
    put_number(to, number);
    return true;
}

static bool put_named(utext *to, const char *name)
{
    const ftfy_entity *hit = bsearch(name, FTFY_ENTITIES, FTFY_ENTITIES_N, sizeof *FTFY_ENTITIES, by_name);

    for (size_t i = 0; hit && i < 3 && hit->c[i]; i++)
        utext_put(to, hit->c[i]);
    return hit;
}

void ftfy_unescape(utext *to, const utext *from)
{
    char name[NAME_MOST + 2];

    for (size_t i = 0; i < from->n; i++) {
        const size_t length = from->at[i] == '&' ? reference(from->at + i, from->n - i, name) : 0;

        if (length > 0 && (name[0] == '#' ? put_numeric(to, name) : put_named(to, name)))
            i += length + 1;
        else
            utext_put(to, from->at[i]);
    }
}
