/* panels PICTURE X,Y,W,H ...: does every rectangle of a screenshot show something? A blank panel is one colour, or two where it has
 * a border; text and pictures have dozens. Exit status: 0 all do, 1 some do not (which), 2 what was given makes no sense. */
#include <stdio.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "data/image.h"

enum { COLOURS_LEAST = 8, PANELS_LEAST = 10 };

typedef struct { int x, y, w, h; } rectangle;

static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Distinct colours of the part of r that is in the picture. */
static int colours(const image *m, rectangle r)
{
    uint32_t *seen = NEW_N(uint32_t, (size_t)m->w * (size_t)m->h + 1);
    size_t n = 0;
    int distinct = 0;

    for (int y = r.y < 0 ? 0 : r.y; y < r.y + r.h && y < m->h; y++)
        for (int x = r.x < 0 ? 0 : r.x; x < r.x + r.w && x < m->w; x++) {
            const uint8_t *p = m->rgb + ((size_t)y * (size_t)m->w + (size_t)x) * 3;
            seen[n++] = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        }
    qsort(seen, n, sizeof *seen, by_value);
    for (size_t i = 0; i < n; i++)
        distinct += i == 0 || seen[i] != seen[i - 1];
    free(seen);
    return distinct;
}

/* What scrolls sideways on a narrow screen is not seen there. */
static int outside(const image *m, rectangle r) { return r.x >= m->w - 2; }

int main(int argc, char **argv)
{
    image m;
    rectangle r;
    err e = {0};
    int blank = 0;

    if (argc < 2 + PANELS_LEAST || image_load(&m, argv[1], &e) != 0) {
        fprintf(stderr, "panels: %s\n", e.code ? e.text : "fewer panels than any page has");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        if (sscanf(argv[i], "%d,%d,%d,%d", &r.x, &r.y, &r.w, &r.h) != 4 || r.w < 1 || r.h < 1 || r.y + r.h > m.h) {
            fprintf(stderr, "panels: %s is no rectangle of a picture %d pixels high\n", argv[i], m.h);
            return 2;
        }
        if (!outside(&m, r) && colours(&m, r) < COLOURS_LEAST) {
            printf("%s: %d colours\n", argv[i], colours(&m, r));
            blank++;
        }
    }
    image_free(&m);
    return blank > 0;
}
