/* Reading and searching. The product runs in f32 over blocks that stay in a cache; what decides, the cosines of the few
 * that may be chosen, is computed again in double, so that the order of f32 sums does not change the choice. */
#include "data/reg_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/dtype.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/reg_index_impl.h"

_Static_assert(sizeof(reg_header) == 256 && sizeof(reg_record) == 32, "the file's layout");
static const double SLACK = 1e-3; /* far above what f32 products of unit vectors are off by */

struct reg_index {
    char *path;
    fs_map map;
    reg_header h;
    const float *probe;
    const uint16_t *vectors;
    const reg_record *table;
    const char *text;
    const uint64_t *sums;
};

/* ---- layout and sums ---- */

uint64_t reg_sum(const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    uint64_t lane[8], all = n;

    for (int k = 0; k < 8; k++)
        lane[k] = 0x9E3779B97F4A7C15u * (uint64_t)(k + 1);
    for (; n >= 64; n -= 64, at += 64)
        for (int k = 0; k < 8; k++) {
            uint64_t w;
            memcpy(&w, at + 8 * k, 8);
            lane[k] = (lane[k] ^ w) * 0xBF58476D1CE4E5B9u;
            lane[k] ^= lane[k] >> 29;
        }
    for (size_t i = 0; i < n; i++)
        lane[i % 8] = (lane[i % 8] ^ at[i]) * 0x94D049BB133111EBu;
    for (int k = 0; k < 8; k++) {
        all = (all ^ lane[k]) * 0xBF58476D1CE4E5B9u;
        all ^= all >> 31;
    }
    return all;
}

int reg_layout(reg_header *h, err *e)
{
    enum { COUNT_MOST = 1 << 30 };
    uint64_t dim = h->dim, row = dim * sizeof(uint16_t);

    if (h->count < 1 || h->count > COUNT_MOST || dim < 1 || dim > REG_INDEX_DIM_MOST || h->text_bytes >> 40)
        return err_set(e, ERR_INPUT, "%llu captions of width %llu", (unsigned long long)h->count,
                       (unsigned long long)dim);
    h->table_at = (sizeof *h + dim * sizeof(float) + 63) / 64 * 64;
    h->text_at = h->table_at + h->count * sizeof(reg_record);
    h->vectors_at = (h->text_at + h->text_bytes + REG_INDEX_PAGE - 1) / REG_INDEX_PAGE * REG_INDEX_PAGE;
    h->sums_at = (h->vectors_at + h->count * row + 7) / 8 * 8;
    uint64_t each = (uint64_t)reg_block_rows((int)dim);
    h->file_bytes = h->sums_at + (h->count + each - 1) / each * sizeof(uint64_t);
    return 0;
}

/* ---- opening ---- */

bool reg_index_is(const char *path)
{
    fs_map m;

    if (fs_is_dir(path) || fs_map_open(&m, path, NULL) != 0)
        return false;
    bool is = m.n >= sizeof(reg_header) && memcmp(m.at, REG_INDEX_MAGIC, 8) == 0;
    fs_map_close(&m);
    return is;
}

static int damaged(const reg_index *x, const char *what, err *e)
{
    return err_set(e, ERR_INPUT, "%s: %s; the index is damaged or cut short: make it again with cfarm reg index",
                   x->path, what);
}

static int check_header(const reg_index *x, err *e)
{
    const reg_header *h = &x->h;
    reg_header want = *h;

    if (h->version > REG_INDEX_VERSION)
        return err_set(e, ERR_INPUT, "%s: version %u, and this program reads versions up to %d", x->path, h->version,
                       REG_INDEX_VERSION);
    if (reg_sum(h, offsetof(reg_header, sum)) != h->sum || reg_layout(&want, NULL) != 0 ||
        memcmp(&want, h, sizeof want) != 0)
        return damaged(x, "the header is not what was written", e);
    if (h->file_bytes != x->map.n)
        return damaged(x, "the file is not as long as it says", e);
    return 0;
}

static int check_front(const reg_index *x, err *e)
{
    const reg_header *h = &x->h;

    if (reg_sum(x->map.at + sizeof *h, h->text_at + h->text_bytes - sizeof *h) != h->front_sum ||
        reg_sum(x->sums, h->file_bytes - h->sums_at) != h->sums_sum)
        return damaged(x, "table and texts are not what was written", e);
    if (h->text_bytes < 1 || x->text[h->text_bytes - 1] != '\0')
        return damaged(x, "the texts have no end", e);
    for (uint64_t i = 0; i < h->count; i++)
        if (x->table[i].path >= h->text_bytes || x->table[i].caption >= h->text_bytes)
            return damaged(x, "a text lies outside the texts", e);
    return 0;
}

static int open_map(reg_index *x, err *e)
{
    TRY(fs_map_open(&x->map, x->path, e));
    if (x->map.n < sizeof x->h || memcmp(x->map.at, REG_INDEX_MAGIC, 8) != 0)
        return err_set(e, ERR_INPUT, "%s: no index of captions; cfarm reg index makes one", x->path);
    memcpy(&x->h, x->map.at, sizeof x->h);
    TRY(check_header(x, e));
    x->probe = (const float *)(const void *)(x->map.at + sizeof x->h);
    x->table = (const reg_record *)(const void *)(x->map.at + x->h.table_at);
    x->text = (const char *)x->map.at + x->h.text_at;
    x->vectors = (const uint16_t *)(const void *)(x->map.at + x->h.vectors_at);
    x->sums = (const uint64_t *)(const void *)(x->map.at + x->h.sums_at);
    return check_front(x, e);
}

int reg_index_open(reg_index **out, const char *path, err *e)
{
    reg_index *x = NEW(reg_index);

    x->path = mem_text(path);
    int rc = open_map(x, e);
    if (rc != 0)
        reg_index_close(x);
    else
        *out = x;
    return rc;
}

void reg_index_close(reg_index *x)
{
    if (!x)
        return;
    fs_map_close(&x->map);
    free(x->path);
    free(x);
}

int64_t reg_index_count(const reg_index *x) { return (int64_t)x->h.count; }
int reg_index_dim(const reg_index *x) { return (int)x->h.dim; }
const float *reg_index_probe(const reg_index *x) { return x->probe; }

reg_entry reg_index_at(const reg_index *x, int64_t row)
{
    const reg_record *r = &x->table[row];

    return (reg_entry){x->text + r->path, x->text + r->caption, r->at, r->size};
}

/* ---- blocks ---- */

typedef struct { int64_t from, n; } rows;

static rows block_at(const reg_index *x, int64_t block)
{
    int64_t each = reg_block_rows((int)x->h.dim), from = block * each, left = (int64_t)x->h.count - from;

    return (rows){from, left < each ? left : each};
}

static int64_t blocks(const reg_index *x)
{
    int64_t each = reg_block_rows((int)x->h.dim);

    return ((int64_t)x->h.count + each - 1) / each;
}

static int check_block(const reg_index *x, int64_t block, err *e)
{
    rows r = block_at(x, block);
    size_t row = x->h.dim * sizeof(uint16_t);

    if (reg_sum(x->vectors + r.from * (int64_t)x->h.dim, (size_t)r.n * row) != x->sums[block])
        return damaged(x, "vectors are not what was written", e);
    return 0;
}

int reg_index_check(const reg_index *x, err *e)
{
    for (int64_t b = 0; b < blocks(x); b++)
        TRY(check_block(x, b, e));
    return 0;
}

int reg_index_row(const reg_index *x, int64_t row, float *out, err *e)
{
    TRY(check_block(x, row / reg_block_rows((int)x->h.dim), e));
    f32_from(out, x->vectors + row * (int64_t)x->h.dim, F16, x->h.dim);
    return 0;
}

/* ---- search ---- */

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint16_t half_four __attribute__((vector_size(8), aligned(2), may_alias));
typedef uint32_t bits_four __attribute__((vector_size(16)));

/* f16 is f32 with fewer bits and another bias: 2^112 makes up for it. No infinities and no denormals are in an index.
 */
static four widened(half_four h)
{
    bits_four u = __builtin_convertvector(h, bits_four);
    four f = (four)((u & 0x7fff) << 13) * 0x1p112F;

    return (four)((bits_four)f | (u & 0x8000) << 16);
}

/* Sixteen sums beside each other: memory is what it waits for, wider registers would not help. */
static float dot(const uint16_t *a, const float *b, size_t n)
{
    four s[4] = {{0}};
    float all = 0;
    size_t k = 0;

    for (; k + 16 <= n; k += 16)
        for (size_t j = 0; j < 4; j++)
            s[j] += widened(*(const half_four *)(a + k + 4 * j)) * *(const four *)(b + k + 4 * j);
    s[0] = (s[0] + s[1]) + (s[2] + s[3]);
    for (; k < n; k++)
        all += f32_of_f16(a[k]) * b[k];
    return all + ((s[0][0] + s[0][1]) + (s[0][2] + s[0][3]));
}

/* near[i] = row i times query; each block is checked while it is in the cache. */
static int product(const reg_index *x, const float *query, float *near, err *e)
{
    size_t dim = x->h.dim;
    int64_t wrong = 0;

#pragma omp parallel for schedule(static) reduction(+ : wrong)
    for (int64_t b = 0; b < blocks(x); b++) {
        rows r = block_at(x, b);
        wrong += check_block(x, b, NULL) != 0;
        for (int64_t i = r.from; i < r.from + r.n; i++)
            near[i] = dot(x->vectors + (size_t)i * dim, query, dim);
    }
    return wrong == 0 ? 0 : damaged(x, "vectors are not what was written", e);
}

static double exact(const reg_index *x, int64_t row, const float *query)
{
    const uint16_t *v = x->vectors + row * (int64_t)x->h.dim;
    double s = 0;

    for (uint32_t k = 0; k < x->h.dim; k++)
        s += (double)f32_of_f16(v[k]) * query[k];
    return s;
}

static void sift(float *heap, size_t n, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[at] <= heap[child])
            return;
        float v = heap[at];
        heap[at] = heap[child];
        heap[child] = v;
    }
}

/* The want-th largest of near, or the least where there are fewer: a heap of the largest, its smallest on top. */
static float last_of_best(const float *near, int64_t count, size_t want)
{
    size_t n = want < (size_t)count ? want : (size_t)count;
    float *heap = NEW_N(float, n + 1);

    memcpy(heap, near, n * sizeof *heap);
    for (size_t i = n; i-- > 0;)
        sift(heap, n, i);
    for (int64_t i = (int64_t)n; i < count; i++)
        if (near[i] > heap[0]) {
            heap[0] = near[i];
            sift(heap, n, 0);
        }
    float last = heap[0];
    free(heap);
    return last;
}

static int nearest_first(const void *a, const void *b)
{
    const reg_hit *x = a, *y = b;

    if (x->near != y->near)
        return x->near > y->near ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Where f32 leaves no doubt it decides; the others are computed exactly. */
static void choose(const reg_index *x, const float *query, const float *near, double least, size_t want, reg_hit **hits,
                   size_t *n, size_t *found)
{
    double last = last_of_best(near, reg_index_count(x), want) - SLACK;
    size_t room = 0;

    *hits = NULL;
    *n = *found = 0;
    for (int64_t i = 0; i < reg_index_count(x); i++) {
        bool may_be_taken = near[i] >= last, doubtful = fabs(near[i] - least) <= SLACK;
        if (near[i] < least - SLACK)
            continue;
        double cosine = may_be_taken || doubtful ? exact(x, i, query) : near[i];
        if (cosine < least)
            continue;
        ++*found;
        if (!may_be_taken)
            continue;
        if (*n == room)
            *hits = mem_grow(*hits, room = 2 * room + 64, sizeof **hits);
        (*hits)[(*n)++] = (reg_hit){i, cosine};
    }
    if (*n > 0)
        qsort(*hits, *n, sizeof **hits, nearest_first);
    *n = *n < want ? *n : want;
}

int reg_index_search(const reg_index *x, const float *query, double least, size_t want, reg_hit **hits, size_t *n,
                     size_t *found, err *e)
{
    size_t dim = x->h.dim;
    double squares = 0;
    void *near;

    CHECK(want > 0);
    TRY(mem_big(&near, (size_t)x->h.count * sizeof(float), "the cosines of a search", e));
    float *unit = NEW_N(float, dim);
    for (size_t k = 0; k < dim; k++)
        squares += (double)query[k] * query[k];
    for (size_t k = 0; k < dim && squares > 0; k++)
        unit[k] = (float)(query[k] / sqrt(squares));
    int rc = product(x, unit, near, e);
    if (rc == 0)
        choose(x, unit, near, least, want, hits, n, found);
    free(unit);
    free(near);
    return rc;
}
