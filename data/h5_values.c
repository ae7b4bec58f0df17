/* Values of a dataset out of the mapping: as they lie, from one chunk, or from the chunks of a fixed array. */
#include <string.h>

#include "data/h5_impl.h"

enum { CHECK_BYTES = 4 };
static const char DAMAGED[] = "its list of chunks is damaged";

static void take(unsigned char *to, const unsigned char *from, size_t n, hash *h)
{
    memcpy(to, from, n);
    if (h)
        hash_add(h, to, n);
}

/* ---- chunks ---- */

typedef struct {
    const h5_object *o;
    uint64_t across[STORE_DIMS]; /* chunks along each dimension */
    uint64_t count, bytes;       /* of chunks; of one without its checksum */
    bool in_rows;                /* each is a run of whole rows */
} grid;

static const char *lay_grid(grid *g, const h5_object *o, const h5_file *f)
{
    const h5_layout *l = &o->layout;
    *g = (grid){.o = o, .count = 1, .bytes = o->size, .in_rows = true};
    if (l->n != o->shape.n)
        return DAMAGED;
    for (int i = 0; i < l->n; i++) {
        uint64_t d = (uint64_t)o->shape.d[i];
        if (l->chunk[i] < 1 || l->chunk[i] > f->map.n || g->bytes > f->map.n / l->chunk[i])
            return DAMAGED;
        g->bytes *= l->chunk[i];
        g->across[i] = (d + l->chunk[i] - 1) / l->chunk[i];
        g->count *= g->across[i]; /* at most the elements, which fit the file */
        g->in_rows = g->in_rows && (i == 0 || l->chunk[i] == d);
    }
    return NULL;
}

/* Chunk k of a grid that also cuts rows: run after run along the last dimension. */
static void scatter(unsigned char *to, const grid *g, uint64_t k, const unsigned char *from)
{
    const h5_layout *l = &g->o->layout;
    int n = l->n;
    uint64_t first[STORE_DIMS], count[STORE_DIMS], at[STORE_DIMS] = {0};
    for (int i = n - 1; i >= 0; k /= g->across[i--]) {
        uint64_t left;
        first[i] = k % g->across[i] * l->chunk[i];
        left = (uint64_t)g->o->shape.d[i] - first[i];
        count[i] = left < l->chunk[i] ? left : l->chunk[i];
    }
    for (;;) {
        uint64_t there = 0, here = 0;
        int i = n - 2;
        for (int d = 0; d < n; d++) {
            there = there * (uint64_t)g->o->shape.d[d] + first[d] + at[d];
            here = here * l->chunk[d] + at[d];
        }
        memcpy(to + there * g->o->size, from + here * g->o->size, count[n - 1] * g->o->size);
        for (; i >= 0 && ++at[i] == count[i]; i--)
            at[i] = 0;
        if (i < 0)
            return;
    }
}

static const char *take_chunk(unsigned char *to, hash *h, const grid *g, uint64_t k, uint64_t address, uint64_t stored,
                              const h5_file *f)
{
    h5_bytes b = h5_span(f, address, g->bytes);
    uint64_t row;
    if (b.bad || stored != g->bytes + (g->o->checked ? CHECK_BYTES : 0))
        return "a chunk is not there, or not of the size it should have";
    if (!g->in_rows) {
        scatter(to, g, k, b.at);
        return NULL;
    }
    row = k * g->bytes;
    take(to + row, b.at, g->o->bytes - row < g->bytes ? g->o->bytes - row : g->bytes, h);
    return NULL;
}

/* The array's header, then its block: an address for each chunk and, where filtered, its size and mask. */
static const char *take_array(unsigned char *to, hash *h, const grid *g, const h5_file *f)
{
    h5_bytes head = h5_span(f, g->o->layout.address, 24), block;
    bool good = h5_starts(&head, "FAHD", 0);
    uint64_t filtered = h5_get(&head, 1), entry = h5_get(&head, 1), page_bits = h5_get(&head, 1), n = h5_get(&head, 8);
    const char *wrong = NULL;
    if (!good || head.bad || filtered != (uint64_t)g->o->checked || entry < (filtered ? 13U : 8U) || entry > 20 ||
        n != g->count || page_bits > 32 || n > 1ULL << page_bits || n > f->map.n / entry)
        return DAMAGED;
    block = h5_span(f, h5_get(&head, 8), 14 + n * entry);
    if (!h5_starts(&block, "FADB", 0))
        return DAMAGED;
    h5_skip(&block, 9);
    for (uint64_t k = 0; !wrong && k < n; k++) {
        uint64_t address = h5_get(&block, 8), stored = filtered ? h5_get(&block, (int)entry - 12) : g->bytes;
        if (filtered && h5_get(&block, 4) != 0)
            return DAMAGED;
        wrong = take_chunk(to, h, g, k, address, stored, f);
    }
    return wrong;
}

static const char *take_chunks(unsigned char *to, hash *h, const h5_object *o, const h5_file *f)
{
    grid g;
    const char *wrong = lay_grid(&g, o, f);
    hash *in_order = wrong || g.in_rows ? h : NULL;
    if (!wrong && o->layout.single)
        wrong = g.count == 1 ? take_chunk(to, in_order, &g, 0, o->layout.address, o->checked ? o->layout.stored : g.bytes, f)
                             : DAMAGED;
    else if (!wrong)
        wrong = take_array(to, in_order, &g, f);
    if (!wrong && h && !in_order)
        hash_add(h, to, o->bytes);
    return wrong;
}

/* ---- all ---- */

const char *h5_read_values(void *to, hash *h, const h5_object *o, const h5_file *f)
{
    const h5_layout *l = &o->layout;
    h5_bytes b;
    if (o->bytes == 0)
        return NULL;
    if (l->kind == H5_CHUNKED)
        return take_chunks(to, h, o, f);
    if (l->bytes != o->bytes)
        return "its values are cut short";
    b = l->inside ? (h5_bytes){l->inside, l->inside + l->bytes, false} : h5_span(f, l->address, l->bytes);
    if (b.bad)
        return "its values are not in the file";
    take(to, b.at, o->bytes, h);
    return NULL;
}
