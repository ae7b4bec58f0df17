/* Text that grows, and small questions about text. */
#include "cluster/base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/err.h"
#include "cluster/base/mem.h"

static void make_room(str *s, size_t more)
{
    size_t need = s->n + more + 1;
    if (need <= s->room)
        return;
    s->room = need > 2 * s->room ? need : 2 * s->room;
    s->at = mem_grow(s->at, s->room, 1);
}

void str_add(str *s, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    CHECK(n >= 0);
    make_room(s, (size_t)n);
    vsnprintf(s->at + s->n, (size_t)n + 1, fmt, again);
    s->n += (size_t)n;
    va_end(again);
    va_end(args);
}

void str_put(str *s, const void *bytes, size_t n)
{
    make_room(s, n);
    if (n > 0)
        memcpy(s->at + s->n, bytes, n);
    s->n += n;
    s->at[s->n] = 0;
}

void str_free(str *s)
{
    free(s->at);
    *s = (str){0};
}

bool str_ends(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && memcmp(s + n - t, tail, t) == 0;
}

bool str_starts(const char *s, const char *head)
{
    return strncmp(s, head, strlen(head)) == 0;
}

bool str_copy(char *to, size_t room, const char *from)
{
    size_t n = strlen(from);
    bool fits = n < room;
    if (!fits)
        n = room > 0 ? room - 1 : 0;
    if (room > 0) {
        memcpy(to, from, n);
        to[n] = 0;
    }
    return fits;
}

enum { NEAR_LONGEST = 64 }; /* longer names are not looked for: nobody mistypes them by two letters */

static size_t least_of(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b: Damerau-Levenshtein, optimal alignment. */
static size_t distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    size_t d[NEAR_LONGEST + 1][NEAR_LONGEST + 1];
    for (size_t i = 0; i <= na; i++) {
        for (size_t j = 0; j <= nb; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = least_of(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[na][nb];
}

const char *str_nearest(const char *word, const char *const known[])
{
    const char *best = NULL;
    if (strlen(word) > NEAR_LONGEST)
        return NULL;
    size_t least = strlen(word) / 3 + 2; /* one edit of a short word, a third of a long one */
    for (size_t i = 0; known[i]; i++) {
        size_t n = strlen(known[i]);
        size_t d = n > NEAR_LONGEST ? least : distance(word, known[i]);
        if (d < least && d < n) { /* d = n: nothing in common */
            least = d;
            best = known[i];
        }
    }
    return best;
}
