#include "trainer/checkpoint.h"

#include <string.h>

enum { VERSION = 1 };
static const char MAGIC[8] = "cfarmckp";

typedef struct {
    char magic[8];
    uint32_t version, zero;
    uint64_t length, step, weights;
    double table, probe;
    uint64_t zero_too;
    char key[HASH_HEX - 1];
    char sum[HASH_HEX - 1];
} head;
_Static_assert(sizeof(head) == 192 && offsetof(head, sum) == 128, "as the page above says");

size_t checkpoint_bytes(size_t weights, uint64_t step) { return sizeof(head) + 3 * sizeof(float) * (weights + (size_t)step); }

void checkpoint_lay(checkpoint *out, void *bytes, size_t weights, uint64_t step)
{
    float *at = (float *)(void *)((char *)bytes + sizeof(head));

    *out = (checkpoint){.step = step, .weights = weights, .table = 1};
    out->w = at;
    out->m = at + weights;
    out->v = at + 2 * weights;
    out->loss = at + 3 * weights;
    out->lr = out->loss + step;
    out->grad_norm = out->lr + step;
}

static void sum_of(const void *bytes, size_t n, char hex[HASH_HEX])
{
    hash *h = hash_new();

    hash_add(h, bytes, offsetof(head, sum));
    hash_add(h, (const char *)bytes + sizeof(head), n - sizeof(head));
    hash_end(h, hex);
}

void checkpoint_seal(const checkpoint *c, void *bytes, const char key[HASH_HEX])
{
    head h = {.version = VERSION, .length = checkpoint_bytes(c->weights, c->step), .step = c->step, .weights = c->weights,
              .table = c->table, .probe = c->probe};
    char hex[HASH_HEX];

    memcpy(h.magic, MAGIC, sizeof MAGIC);
    memcpy(h.key, key, sizeof h.key);
    memcpy(bytes, &h, sizeof h);
    sum_of(bytes, (size_t)h.length, hex);
    memcpy((char *)bytes + offsetof(head, sum), hex, sizeof h.sum);
}

uint64_t checkpoint_step(const void *bytes, size_t n)
{
    head h = {0};

    if (n >= sizeof h)
        memcpy(&h, bytes, sizeof h);
    return memcmp(h.magic, MAGIC, sizeof MAGIC) == 0 ? h.step : 0;
}

/* Lengths are compared so that no product can overflow. */
static int check_head(const head *h, size_t n, err *e)
{
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0)
        return err_set(e, ERR_IO, "no checkpoint");
    if (h->version != VERSION)
        return err_set(e, ERR_IO, "a checkpoint of version %u, this program knows %d", h->version, VERSION);
    if (h->length > n || h->step > n || h->weights > n || h->length != checkpoint_bytes((size_t)h->weights, h->step))
        return err_set(e, ERR_IO, "a checkpoint cut short: %zu bytes of %llu", n, (unsigned long long)h->length);
    return 0;
}

int checkpoint_open(checkpoint *out, const void *bytes, size_t n, const char key[HASH_HEX], err *e)
{
    char hex[HASH_HEX];
    head h;

    if (n < sizeof h)
        return err_set(e, ERR_IO, "no checkpoint");
    memcpy(&h, bytes, sizeof h);
    TRY(check_head(&h, n, e));
    sum_of(bytes, (size_t)h.length, hex);
    if (memcmp(hex, h.sum, sizeof h.sum) != 0)
        return err_set(e, ERR_IO, "a damaged checkpoint: its bytes are not those that were written");
    if (memcmp(h.key, key, sizeof h.key) != 0)
        return err_set(e, ERR_INPUT, "a checkpoint of other settings, another model or another program");
    checkpoint_lay(out, (void *)(uintptr_t)bytes, (size_t)h.weights, h.step);
    out->table = h.table;
    out->probe = h.probe;
    return 0;
}
