/* Four ways a set, the one unused longest makes room. */
#include "trainer/latents.h"

#include <stdlib.h>

#include "cluster/base/mem.h"

enum { WAYS = 4, MOST_SETS = 1 << 16 };

typedef struct {
    uint64_t key, used;  /* used: 0 for an empty place */
    float *moments;      /* mean [count], logvar [count] */
} place;

struct latents {
    sd *model;
    batch_source *from;
    int side;
    size_t count, sets;
    place *at;
    uint64_t asked, encoded;
    float *pixels;       /* [side, side, 3] */
};

latents *latents_new(sd *model, batch_source *from, size_t bytes)
{
    latents *l = NEW(latents);
    int side = batch_side(from), cells = side / vae_factor(sd_vae_shape(model));

    *l = (latents){.model = model, .from = from, .side = side};
    l->count = (size_t)cells * (size_t)cells * (size_t)sd_latent_channels(model);
    l->sets = bytes / (WAYS * 2 * l->count * sizeof(float)) + 1;
    if (l->sets > MOST_SETS)
        l->sets = MOST_SETS;
    l->at = NEW_N(place, l->sets * WAYS);
    l->pixels = NEW_N(float, side * side * 3);
    return l;
}

void latents_free(latents *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->sets * WAYS; i++)
        free(l->at[i].moments);
    free(l->at);
    free(l->pixels);
    free(l);
}

/* Its place, or the one to fill. */
static place *look_up(latents *l, uint64_t key)
{
    place *set = l->at + key % l->sets * WAYS, *oldest = set;

    for (int i = 0; i < WAYS; i++) {
        if (set[i].used && set[i].key == key)
            return &set[i];
        if (set[i].used < oldest->used)
            oldest = &set[i];
    }
    return oldest;
}

static int encode(latents *l, const batch_sample *of, place *to, err *e)
{
    to->used = 0;
    if (!to->moments)
        TRY(mem_big((void **)&to->moments, 2 * l->count * sizeof(float), "moments of one picture", e));
    TRY(batch_pixels(l->from, of, l->pixels, e));
    TRY(sd_vae_encode(l->model, l->pixels, 1, l->side, l->side, to->moments, to->moments + l->count, e));
    to->key = of->key;
    l->encoded++;
    return 0;
}

int latents_draw(latents *l, const batch_sample *of, rng_stream noise, float *out, err *e)
{
    place *p = look_up(l, of->key);

    if (!p->used || p->key != of->key)
        TRY(encode(l, of, p, e));
    p->used = ++l->asked;
    rng_normal_fill(noise, out, l->count);
    vae_sample(sd_vae_shape(l->model), p->moments, p->moments + l->count, out, out, l->count);
    return 0;
}

void latents_tell(const latents *l, uint64_t *asked, uint64_t *encoded)
{
    *asked = l->asked;
    *encoded = l->encoded;
}
