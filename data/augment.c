#include "data/augment.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/resize.h"

/* Numbers of the stream "crop", by what they decide. */
enum { DRAW_MIXTURE, DRAW_SIZE, DRAW_TOP, DRAW_LEFT };

static int between(rng_stream s, uint64_t i, int low, int high)
{
    return low + (int)rng_below(s, i, (uint32_t)(high - low + 1));
}

static int draw_size(const augment_recipe *r, rng_stream s)
{
    int side = r->side;
    bool paper = r->style == AUGMENT_PAPER;
    bool small = paper ? rng_below(s, DRAW_MIXTURE, 3) < 2 : rng_uniform(s, DRAW_MIXTURE) < 0.66f;
    int size = small ? between(s, DRAW_SIZE, side / 3, side) : between(s, DRAW_SIZE, side * 6 / 5, side * 7 / 5 - 1);

    return paper ? size + (size & 1) : size;
}

static augment_box everything(const augment_recipe *r)
{
    int cells = r->side / r->factor;

    return (augment_box){0, 0, cells, cells};
}

/* Cells inside size pixels from `from` on, less one at each end: those touched by the border blend into the grey. */
static void cells_inside(int *first, int *end, int from, int size, int factor)
{
    *first = from / factor + 1;
    *end = (from + size) / factor - 1;
    if (*end <= *first) {
        *first = (from + size / 2) / factor;
        *end = *first + 1;
    }
}

static void place(augment_look *look, const augment_recipe *r, rng_stream s)
{
    int room = r->side - look->high; /* negative: how much sticks out */

    look->top = room < 0 ? -between(s, DRAW_TOP, 0, -room) : between(s, DRAW_TOP, 0, room);
    look->left = room < 0 ? -between(s, DRAW_LEFT, 0, -room) : between(s, DRAW_LEFT, 0, room);
    look->counts = everything(r);
    if (room >= 0) {
        cells_inside(&look->counts.top, &look->counts.bottom, look->top, look->high, r->factor);
        cells_inside(&look->counts.left, &look->counts.right, look->left, look->wide, r->factor);
    }
}

static const char *words_for(int size, int side, rng_stream s)
{
    static const char *const far_words[] = {"a far away ", "very small "};
    static const char *const near_words[] = {"zoomed in ", "close up "};
    uint32_t which = rng_below(s, 0, 2);

    if (5 * size < 3 * side) /* s < 0.6 S */
        return far_words[which];
    return size > side ? near_words[which] : "";
}

static void draw_target(augment_look *look, const augment_recipe *r, rng_stream crop, rng_stream prefix)
{
    int size = r->resize ? draw_size(r, crop) : r->side;

    look->prefix = words_for(size, r->side, prefix);
    if (r->style == AUGMENT_PAPER && size <= r->side && !look->prefix[0])
        return; /* shown whole: the drawn size is dropped */
    look->high = look->wide = size;
    place(look, r, crop);
}

/* torchvision's Resize (the longer side rounded down) and RandomCrop, or CenterCrop (halves to even). */
static void draw_cut(augment_look *look, const augment_recipe *r, int h, int w, rng_stream s)
{
    look->high = h <= w ? r->side : (int)((int64_t)r->side * h / w);
    look->wide = w <= h ? r->side : (int)((int64_t)r->side * w / h);
    int out = look->high - r->side, over = look->wide - r->side;
    look->top = -(r->middle ? (out + (out & 2) / 2) / 2 : between(s, DRAW_TOP, 0, out));
    look->left = -(r->middle ? (over + (over & 2) / 2) / 2 : between(s, DRAW_LEFT, 0, over));
}

augment_look augment_draw(const augment_recipe *r, int h, int w, uint64_t seed, uint32_t step, uint32_t sample)
{
    rng_stream crop = rng_open(seed, "crop", step, sample), prefix = rng_open(seed, "prefix", step, sample);
    augment_look look = {.high = r->side, .wide = r->side, .prefix = "", .counts = everything(r)};

    look.flip = r->flip && rng_below(rng_open(seed, "flip", step, sample), 0, 2) == 1;
    if (r->style == AUGMENT_CUT || (r->style == AUGMENT_DIFFUSERS && !r->target))
        draw_cut(&look, r, h, w, crop);
    else if (r->target && r->style != AUGMENT_SQUASH)
        draw_target(&look, r, crop, prefix);
    return look;
}

/* ---- rendering ---- */

static resize_from source_of(const augment_recipe *r, const image *m)
{
    size_t stride = (size_t)m->w * 3;
    resize_from all = {m->rgb, m->h, m->w, stride};

    if (r->style != AUGMENT_PAPER && !(r->style == AUGMENT_SQUASH && r->middle))
        return all;
    int side = m->h < m->w ? m->h : m->w;
    return (resize_from){m->rgb + (size_t)((m->h - side) / 2) * stride + (size_t)((m->w - side) / 2) * 3, side, side,
                         stride};
}

static int mirror(uint8_t **to, resize_from *f, err *e)
{
    size_t row = (size_t)f->w * 3;
    void *room;

    TRY(mem_big(&room, row * (size_t)f->h, "a mirrored picture", e));
    for (int y = 0; y < f->h; y++)
        for (int x = 0; x < f->w; x++)
            memcpy((uint8_t *)room + (size_t)y * row + (size_t)x * 3,
                   f->at + (size_t)y * f->stride + (size_t)(f->w - 1 - x) * 3, 3);
    *to = room;
    *f = (resize_from){room, f->h, f->w, row};
    return 0;
}

/* The part of the shown picture that lies on the square. */
static resize_to visible(const augment_recipe *r, const augment_look *look)
{
    int top = look->top < 0 ? -look->top : 0, left = look->left < 0 ? -look->left : 0;
    int bottom = look->high < r->side - look->top ? look->high : r->side - look->top;
    int right = look->wide < r->side - look->left ? look->wide : r->side - look->left;

    return (resize_to){look->high, look->wide, top, left, bottom - top, right - left};
}

static void paste(float *to, const augment_recipe *r, const augment_look *look, const uint8_t *shown, resize_to part)
{
    size_t row = (size_t)part.w * 3;

    memset(to, 0, (size_t)r->side * (size_t)r->side * 3 * sizeof *to); /* mid-grey */
    to += ((look->top + part.top) * r->side + look->left + part.left) * 3;
    for (int y = 0; y < part.h; y++, shown += row, to += r->side * 3)
        for (size_t i = 0; i < row; i++)
            to[i] = (float)(shown[i] / 127.5 - 1.0);
}

int augment_render(float *to, const augment_recipe *r, const augment_look *look, const image *from, err *e)
{
    resize_from source = source_of(r, from);
    resize_to part = visible(r, look);
    bool bicubic = r->style == AUGMENT_PAPER || r->style == AUGMENT_SQUASH;
    uint8_t *mirrored = NULL, *shown = NEW_N(uint8_t, part.h * part.w * 3);
    int rc = look->flip ? mirror(&mirrored, &source, e) : 0;

    if (rc == 0)
        rc = resize(shown, part, source, bicubic ? RESIZE_BICUBIC : RESIZE_BILINEAR, e);
    if (rc == 0)
        paste(to, r, look, shown, part);
    free(mirrored);
    free(shown);
    return rc;
}

void augment_mask(float *to, const augment_recipe *r, const augment_look *look)
{
    const augment_box *b = &look->counts;
    int cells = r->side / r->factor;

    for (int y = 0; y < cells; y++)
        for (int x = 0; x < cells; x++)
            *to++ = y >= b->top && y < b->bottom && x >= b->left && x < b->right ? 1.0f : 0.0f;
}

int augment_cells(const augment_look *look)
{
    const augment_box *b = &look->counts;

    return (b->bottom - b->top) * (b->right - b->left);
}
