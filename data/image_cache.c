#include "data/image_cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "cluster/base/mem.h"

typedef struct {
    image m; /* first: a borrowed image is its entry */
    uint64_t id, used;
    int borrowed;
} entry;

struct image_cache {
    pthread_mutex_t lock;
    entry **at; /* a few hundred at most: searched one by one */
    size_t n, bytes, most;
    uint64_t clock;
};

static size_t bytes_of(const image *m)
{
    return (size_t)m->h * (size_t)m->w * 3;
}

image_cache *image_cache_new(size_t most_bytes)
{
    image_cache *c = NEW(image_cache);

    pthread_mutex_init(&c->lock, NULL);
    c->most = most_bytes;
    return c;
}

static void drop(image_cache *c, size_t i)
{
    c->bytes -= bytes_of(&c->at[i]->m);
    image_free(&c->at[i]->m);
    free(c->at[i]);
    c->at[i] = c->at[--c->n];
}

void image_cache_free(image_cache *c)
{
    if (!c)
        return;
    while (c->n > 0)
        drop(c, c->n - 1);
    pthread_mutex_destroy(&c->lock);
    free(c->at);
    free(c);
}

static void shrink(image_cache *c)
{
    while (c->bytes > c->most) {
        size_t oldest = c->n;
        for (size_t i = 0; i < c->n; i++)
            if (c->at[i]->borrowed == 0 && (oldest == c->n || c->at[i]->used < c->at[oldest]->used))
                oldest = i;
        if (oldest == c->n)
            return;
        drop(c, oldest);
    }
}

static const image *lend(image_cache *c, uint64_t id)
{
    for (size_t i = 0; i < c->n; i++) {
        entry *x = c->at[i];
        if (x->id != id)
            continue;
        x->borrowed++;
        x->used = ++c->clock;
        return &x->m;
    }
    return NULL;
}

/* Takes m. */
static const image *keep(image_cache *c, uint64_t id, image m)
{
    const image *other = lend(c, id); /* another thread was faster */

    if (other) {
        image_free(&m);
        return other;
    }
    c->at = mem_grow(c->at, c->n + 1, sizeof *c->at);
    c->at[c->n] = NEW(entry);
    *c->at[c->n++] = (entry){.m = m, .id = id};
    c->bytes += bytes_of(&m);
    other = lend(c, id);
    shrink(c);
    return other;
}

int image_cache_borrow(const image **out, image_cache *c, uint64_t id, const char *path, err *e)
{
    image m;

    pthread_mutex_lock(&c->lock);
    *out = lend(c, id);
    pthread_mutex_unlock(&c->lock);
    if (*out)
        return 0;
    TRY(image_load(&m, path, e));
    pthread_mutex_lock(&c->lock);
    *out = keep(c, id, m);
    pthread_mutex_unlock(&c->lock);
    return 0;
}

void image_cache_return(image_cache *c, const image *m)
{
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n; i++)
        if (&c->at[i]->m == m)
            c->at[i]->borrowed--;
    shrink(c);
    pthread_mutex_unlock(&c->lock);
}

size_t image_cache_bytes(image_cache *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->bytes;
    pthread_mutex_unlock(&c->lock);
    return n;
}
