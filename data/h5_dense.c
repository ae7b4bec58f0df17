/* Where HDF5 keeps links and attributes that are too many for an object's header: a fractal heap of messages, and a B-tree (version 2)
 * that lists them. */
#include "data/h5_impl.h"

enum { DEPTH_MOST = 16, RECORD_MOST = 64, NODE_HEAD = 6, NODE_EXTRA = 10 };

/* ---- the heap ---- */

typedef struct {
    const h5_file *f;
    uint64_t max_direct, start, width, root, rows, huge;
    int offset_bytes, length_bytes;
} heap;

static const char *open_heap(heap *h, const h5_file *f, uint64_t address)
{
    enum { HEAP_BYTES = 142 };
    h5_bytes b = h5_span(f, address, HEAP_BYTES);
    uint64_t most, bits, filters;
    bool good = h5_starts(&b, "FRHP", 0);
    *h = (heap){.f = f};
    h5_skip(&b, 2);
    filters = h5_get(&b, 2);
    h5_skip(&b, 1);
    most = h5_get(&b, 4);
    h5_skip(&b, 8);
    h->huge = h5_get(&b, 8);
    h5_skip(&b, 80); /* figures of free space and of how many there are */
    h->width = h5_get(&b, 2);
    h->start = h5_get(&b, 8);
    h->max_direct = h5_get(&b, 8);
    bits = h5_get(&b, 2);
    h5_skip(&b, 2);
    h->root = h5_get(&b, 8);
    h->rows = h5_get(&b, 2);
    if (!good || b.bad || filters || bits < 1 || bits > 64 || h->width < 1 || h->start < 1 || h->max_direct < h->start)
        return "its list of contents is damaged";
    h->offset_bytes = (int)(bits + 7) / 8;
    h->length_bytes = h5_bytes_of(h->max_direct) < h5_bytes_of(most) ? h5_bytes_of(h->max_direct) : h5_bytes_of(most);
    return NULL;
}

/* The block that offset falls into: rows of `width` blocks each, the first two rows of blocks of `start` bytes, each
 * further one of blocks twice as large. Blocks larger than max_direct would be tables of blocks; the store's lists
 * never get there. */
static bool find_block(const heap *h, uint64_t *offset, uint64_t *address, uint64_t *size)
{
    h5_bytes table = h5_span(h->f, h->root, 0);
    *size = h->start;
    *address = h->root;
    if (h->rows == 0)
        return *offset < h->start;
    table.end = h->f->map.at + h->f->map.n;
    if (table.bad || !h5_starts(&table, "FHIB", 0))
        return false;
    h5_skip(&table, 8 + (uint64_t)h->offset_bytes);
    for (uint64_t row = 0; row < h->rows && *size <= h->max_direct; row++) {
        uint64_t whole = h->width * *size;
        if (*offset < whole) {
            h5_skip(&table, 8 * (row * h->width + *offset / *size));
            *address = h5_get(&table, 8);
            *offset %= *size;
            return !table.bad;
        }
        *offset -= whole;
        *size *= row > 0 ? 2 : 1;
    }
    return false;
}

typedef struct {
    const h5_file *f;
    heap heap;
    uint64_t wanted; /* of the huge ones: its number */
    h5_bytes found;
    h5_each *each;
    void *arg;
    size_t id_at;  /* of the heap's id within a record */
    uint64_t left; /* records that may still come: each takes bytes of the file */
} listing;

typedef const char *each_record(listing *l, h5_bytes record);
static const char *each_in_tree(listing *l, uint64_t address, each_record *each);

static const char *match_huge(listing *l, h5_bytes record)
{
    uint64_t address = h5_get(&record, 8), n = h5_get(&record, 8);
    if (h5_get(&record, 8) == l->wanted && !record.bad)
        l->found = h5_span(l->f, address, n);
    return NULL;
}

static const char *each_object(listing *l, h5_bytes record)
{
    enum { MANAGED = 0, HUGE_ONE = 1 };
    uint64_t head, offset, n, address, size;
    h5_skip(&record, l->id_at);
    head = h5_get(&record, 1);
    if (head >> 4 == HUGE_ONE) { /* too large for the heap: listed in a tree of its own */
        listing huge = {.f = l->f, .wanted = h5_get(&record, 6), .found = {.bad = true}, .left = l->f->map.n};
        const char *wrong = each_in_tree(&huge, l->heap.huge, match_huge);
        return wrong ? wrong : huge.found.bad ? "its list of contents is damaged" : l->each(l->arg, l->f, huge.found);
    }
    offset = h5_get(&record, l->heap.offset_bytes);
    n = h5_get(&record, l->heap.length_bytes);
    if (record.bad || head >> 4 != MANAGED || !find_block(&l->heap, &offset, &address, &size) || n > size - offset ||
        address > UINT64_MAX - offset)
        return "its list of contents is damaged";
    return l->each(l->arg, l->f, h5_span(l->f, address + offset, n));
}

/* ---- the tree ---- */

typedef struct {
    uint64_t node, record;
    int counts;               /* bytes of a child's number of records */
    int totals[DEPTH_MOST + 1]; /* and of all below it, by its depth; 0 for leaves */
} tree;

static void measure_tree(tree *t, int depth)
{
    uint64_t most = (t->node - NODE_EXTRA) / t->record, below = most;
    t->counts = h5_bytes_of(most);
    for (int d = 1; d <= depth; d++) {
        uint64_t pointer = 8 + (uint64_t)t->counts + (uint64_t)t->totals[d - 1];
        most = t->node > NODE_EXTRA + pointer ? (t->node - NODE_EXTRA - pointer) / (t->record + pointer) : 0;
        below = (most + 1) * below + most; /* may wrap: then it is no tree of ours, and fails below */
        t->totals[d] = h5_bytes_of(below);
    }
}

static const char *each_in_node(listing *l, const tree *t, int depth, uint64_t address, uint64_t n, each_record *each)
{
    h5_bytes b = h5_span(l->f, address, t->node);
    const char *wrong = NULL;
    if (b.bad || !h5_starts(&b, depth ? "BTIN" : "BTLF", 0) || n > l->left / t->record)
        return "its list of contents is damaged";
    l->left -= n * t->record;
    h5_skip(&b, 1);
    for (uint64_t i = 0; !wrong && i < n; i++) {
        const unsigned char *from = h5_skip(&b, t->record);
        wrong = from ? each(l, (h5_bytes){from, from + t->record, false}) : "its list of contents is damaged";
    }
    for (uint64_t i = 0; !wrong && depth > 0 && i <= n; i++) {
        uint64_t child = h5_get(&b, 8), count = h5_get(&b, t->counts);
        h5_skip(&b, depth > 1 ? (uint64_t)t->totals[depth - 1] : 0);
        wrong = b.bad || l->left < NODE_HEAD ? "its list of contents is damaged" : NULL;
        if (!wrong) {
            l->left -= NODE_HEAD; /* so that empty nodes end, too */
            wrong = each_in_node(l, t, depth - 1, child, count, each);
        }
    }
    return wrong;
}

static const char *each_in_tree(listing *l, uint64_t address, each_record *each)
{
    h5_bytes b = h5_span(l->f, address, 38);
    bool good = h5_starts(&b, "BTHD", 0);
    tree t = {0};
    uint64_t depth, root, n;
    h5_skip(&b, 1);
    t.node = h5_get(&b, 4);
    t.record = h5_get(&b, 2);
    depth = h5_get(&b, 2);
    h5_skip(&b, 2);
    root = h5_get(&b, 8);
    n = h5_get(&b, 2);
    if (!good || b.bad || t.record < 1 || t.record > RECORD_MOST || t.node < NODE_EXTRA + t.record || depth > DEPTH_MOST)
        return "its list of contents is damaged";
    measure_tree(&t, (int)depth);
    return root == H5_NOWHERE ? NULL : each_in_node(l, &t, (int)depth, root, n, each);
}

const char *h5_each_dense(const h5_file *f, uint64_t heap_at, uint64_t index, h5_each *each, void *arg)
{
    enum { LINK_NAMES = 5, ATTR_NAMES = 8 };
    listing l = {.f = f, .each = each, .arg = arg, .left = f->map.n};
    h5_bytes kind = h5_span(f, index, 6);
    const char *wrong = open_heap(&l.heap, f, heap_at);
    h5_skip(&kind, 5);
    switch (h5_get(&kind, 1)) {
    case LINK_NAMES: l.id_at = 4; break;
    case ATTR_NAMES: l.id_at = 0; break;
    default: return "its list of contents is damaged";
    }
    return wrong ? wrong : each_in_tree(&l, index, each_object);
}
