/* Symbols are numbered; two hash tables find a symbol by its spelling and a merge by its two symbols. A word is a
 * linked list of symbols over arrays, with a heap of the pairs that could be joined. */
#include "data/tokenizer_bpe.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/err.h"
#include "cluster/base/mem.h"

#define END "</w>" /* of the last symbol of a word */
enum { NONE = -1, FREE = 0 };

typedef struct { char *text; size_t n; int32_t id; } symbol;
typedef struct { int32_t left, right, both; uint32_t rank; } merge;

struct bpe {
    symbol *symbol;
    size_t symbols, symbol_room;
    merge *merge;
    size_t merges, merge_room;
    uint32_t *by_text, *by_pair;       /* open addressing, powers of two; index + 1, FREE: none */
    size_t text_slots, pair_slots;
    int32_t byte[256], last_byte[256]; /* symbols of a byte, and of one that ends a word */
    atomic_int others;                 /* who share it */
};

void id_put(id_list *l, int32_t id)
{
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->at = mem_grow(l->at, l->room, sizeof *l->at);
    }
    l->at[l->n++] = id;
}

/* ---- symbols ---- */

static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 31) * 0x9E3779B97F4A7C15U;
    return h ^ h >> 29;
}

static uint64_t hash_text(const char *text, size_t n)
{
    uint64_t h = 0xCBF29CE484222325U; /* FNV-1a */

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001B3U;
    return mix(h);
}

/* The slot where a spelling is, or where it would go. */
static uint32_t *text_slot(const bpe *b, const char *text, size_t n)
{
    size_t i = hash_text(text, n) & (b->text_slots - 1);

    while (b->by_text[i] != FREE) {
        const symbol *s = &b->symbol[b->by_text[i] - 1];

        if (s->n == n && memcmp(s->text, text, n) == 0)
            break;
        i = (i + 1) & (b->text_slots - 1);
    }
    return &b->by_text[i];
}

static void grow_texts(bpe *b)
{
    free(b->by_text);
    b->text_slots *= 2;
    b->by_text = NEW_N(uint32_t, b->text_slots);
    for (size_t i = 0; i < b->symbols; i++)
        *text_slot(b, b->symbol[i].text, b->symbol[i].n) = (uint32_t)(i + 1);
}

static int32_t intern(bpe *b, const char *text, size_t n)
{
    uint32_t *slot = text_slot(b, text, n);

    if (*slot != FREE)
        return (int32_t)*slot - 1;
    if (b->symbols == b->symbol_room) {
        b->symbol_room *= 2;
        b->symbol = mem_grow(b->symbol, b->symbol_room, sizeof *b->symbol);
    }
    b->symbol[b->symbols] = (symbol){.text = NEW_N(char, n + 1), .n = n, .id = NONE};
    memcpy(b->symbol[b->symbols].text, text, n);
    *slot = (uint32_t)++b->symbols;
    if (2 * b->symbols > b->text_slots)
        grow_texts(b);
    return (int32_t)b->symbols - 1;
}

/* The character that stands for a byte: itself where it prints, else one from U+0100 on, counting. */
static uint32_t letter(unsigned byte, uint32_t *next)
{
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;

    return prints ? byte : (*next)++;
}

static void make_bytes(bpe *b)
{
    uint32_t next = 256;

    for (unsigned i = 0; i < 256; i++) {
        const uint32_t c = letter(i, &next);
        char text[2 + sizeof END];
        size_t n = 0;

        if (c >= 0x80)
            text[n++] = (char)(0xC0 | c >> 6);
        text[n] = (char)(n ? 0x80 | (c & 0x3F) : c);
        n++;
        memcpy(text + n, END, sizeof END - 1);
        b->byte[i] = intern(b, text, n);
        b->last_byte[i] = intern(b, text, n + sizeof END - 1);
    }
}

bpe *bpe_new(void)
{
    bpe *b = NEW(bpe);

    b->symbol_room = b->merge_room = 1024;
    b->symbol = NEW_N(symbol, b->symbol_room);
    b->merge = NEW_N(merge, b->merge_room);
    b->text_slots = b->pair_slots = 4096;
    b->by_text = NEW_N(uint32_t, b->text_slots);
    b->by_pair = NEW_N(uint32_t, b->pair_slots);
    make_bytes(b);
    return b;
}

bpe *bpe_share(bpe *b)
{
    atomic_fetch_add(&b->others, 1);
    return b;
}

void bpe_free(bpe *b)
{
    if (!b || atomic_fetch_sub(&b->others, 1) > 0)
        return;
    for (size_t i = 0; i < b->symbols; i++)
        free(b->symbol[i].text);
    free(b->symbol);
    free(b->merge);
    free(b->by_text);
    free(b->by_pair);
    free(b);
}

void bpe_set_id(bpe *b, const char *entry, size_t n, int32_t id)
{
    const int32_t at = intern(b, entry, n); /* may move the symbols */

    b->symbol[at].id = id;
}

int32_t bpe_id(const bpe *b, const char *entry, size_t n)
{
    const uint32_t slot = *text_slot(b, entry, n);

    return slot == FREE ? NONE : b->symbol[slot - 1].id;
}

const char *bpe_spelling(const bpe *b, int32_t id)
{
    for (size_t i = 0; i < b->symbols; i++)
        if (b->symbol[i].id == id)
            return b->symbol[i].text;
    return NULL;
}

size_t bpe_holders(const bpe *b, const char *text)
{
    size_t n = 0;

    for (size_t i = 0; i < b->symbols; i++)
        n += b->symbol[i].id >= 0 && strstr(b->symbol[i].text, text);
    return n;
}

/* ---- merges ---- */

static uint32_t *pair_slot(const bpe *b, int32_t left, int32_t right)
{
    size_t i = mix((uint64_t)left << 32 | (uint32_t)right) & (b->pair_slots - 1);

    while (b->by_pair[i] != FREE) {
        const merge *m = &b->merge[b->by_pair[i] - 1];

        if (m->left == left && m->right == right)
            break;
        i = (i + 1) & (b->pair_slots - 1);
    }
    return &b->by_pair[i];
}

static void grow_pairs(bpe *b)
{
    free(b->by_pair);
    b->pair_slots *= 2;
    b->by_pair = NEW_N(uint32_t, b->pair_slots);
    for (size_t i = 0; i < b->merges; i++)
        *pair_slot(b, b->merge[i].left, b->merge[i].right) = (uint32_t)(i + 1);
}

static int32_t intern_both(bpe *b, const char *left, size_t n_left, const char *right, size_t n_right)
{
    char *text = NEW_N(char, n_left + n_right + 1);
    int32_t both;

    memcpy(text, left, n_left);
    memcpy(text + n_left, right, n_right);
    both = intern(b, text, n_left + n_right);
    free(text);
    return both;
}

void bpe_merge(bpe *b, const char *left, size_t n_left, const char *right, size_t n_right, uint32_t rank)
{
    const merge m = {.left = intern(b, left, n_left), .right = intern(b, right, n_right),
                     .both = intern_both(b, left, n_left, right, n_right), .rank = rank};
    uint32_t *slot = pair_slot(b, m.left, m.right);

    if (*slot != FREE) {
        b->merge[*slot - 1].rank = rank;
        return;
    }
    if (b->merges == b->merge_room) {
        b->merge_room *= 2;
        b->merge = mem_grow(b->merge, b->merge_room, sizeof *b->merge);
    }
    b->merge[b->merges] = m;
    *slot = (uint32_t)++b->merges;
    if (2 * b->merges > b->pair_slots)
        grow_pairs(b);
}

/* ---- one word ---- */

typedef struct { uint32_t rank, at; } pair; /* symbols at and next[at] */
typedef struct {
    const bpe *b;
    size_t n;
    int32_t *symbol;       /* NONE: joined to one before */
    uint32_t *next, *prev; /* n: none */
    pair *heap;
    size_t heap_n, heap_room;
} word;

static const merge *merge_at(const word *w, size_t at)
{
    uint32_t slot;

    if (w->symbol[at] == NONE || w->next[at] == w->n)
        return NULL;
    slot = *pair_slot(w->b, w->symbol[at], w->symbol[w->next[at]]);
    return slot == FREE ? NULL : &w->b->merge[slot - 1];
}

static bool before(pair a, pair b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void push(word *w, size_t at)
{
    const merge *m = merge_at(w, at);
    size_t i = w->heap_n;
    pair p;

    if (!m)
        return;
    if (w->heap_n == w->heap_room) {
        w->heap_room *= 2;
        w->heap = mem_grow(w->heap, w->heap_room, sizeof *w->heap);
    }
    p = (pair){m->rank, (uint32_t)at};
    for (w->heap_n++; i > 0 && before(p, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = p;
}

static pair pop(word *w)
{
    const pair top = w->heap[0], last = w->heap[--w->heap_n];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < w->heap_n) {
        if (child + 1 < w->heap_n && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* Joins the symbol at `at` with its right neighbour. */
static void join(word *w, size_t at, const merge *m)
{
    const uint32_t right = w->next[at];

    w->symbol[at] = m->both;
    w->symbol[right] = NONE;
    w->next[at] = w->next[right];
    if (w->next[at] < w->n)
        w->prev[w->next[at]] = (uint32_t)at;
}

/* All pairs of the least rank, left to right; pairs that arise wait until these are done. joined: room for n. */
static void join_least(word *w, uint32_t *joined)
{
    const uint32_t rank = w->heap[0].rank;
    size_t n = 0;

    while (w->heap_n > 0 && w->heap[0].rank == rank) {
        const pair p = pop(w);
        const merge *m = merge_at(w, p.at);

        if (m && m->rank == rank) { /* else one of the two is gone */
            join(w, p.at, m);
            joined[n++] = p.at;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (w->symbol[joined[i]] == NONE)
            continue;
        push(w, joined[i]);
        if (w->prev[joined[i]] < w->n)
            push(w, w->prev[joined[i]]);
    }
}

static void word_open(word *w, const bpe *b, const unsigned char *bytes, size_t n)
{
    *w = (word){.b = b, .n = n, .symbol = NEW_N(int32_t, n), .next = NEW_N(uint32_t, n), .prev = NEW_N(uint32_t, n),
                .heap = NEW_N(pair, n), .heap_room = n};
    for (size_t i = 0; i < n; i++) {
        w->symbol[i] = i + 1 == n ? b->last_byte[bytes[i]] : b->byte[bytes[i]];
        w->next[i] = (uint32_t)(i + 1);
        w->prev[i] = (uint32_t)(i == 0 ? n : i - 1);
    }
    for (size_t i = 0; i < n; i++)
        push(w, i);
}

void bpe_word(const bpe *b, const unsigned char *bytes, size_t n, int32_t unknown, id_list *out)
{
    uint32_t *joined = NEW_N(uint32_t, n);
    word w;

    CHECK(n > 0 && n < UINT32_MAX);
    word_open(&w, b, bytes, n);
    while (w.heap_n > 0)
        join_least(&w, joined);
    for (size_t i = 0; i < n; i = w.next[i]) {
        const int32_t id = b->symbol[w.symbol[i]].id;

        id_put(out, id == NONE ? unknown : id);
    }
    free(joined);
    free(w.symbol);
    free(w.next);
    free(w.prev);
    free(w.heap);
}
