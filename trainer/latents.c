/* Four ways a set, the one unused longest makes room. */
#include "trainer/latents.h"

#include <pthread.h>
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/moments.h"

enum { WAYS = 4, MOST_SETS = 1 << 16 };

typedef struct {
    uint64_t key, used;  /* used: 0 for an empty place */
    float *moments;      /* mean [count], logvar [count] */
} place;

typedef struct {
    uint64_t id;         /* of a picture's path */
    char sha[HASH_HEX];
} known;

struct latents_pool {
    sd *model;
    int side;
    size_t count, sets;
    place *at;
    uint64_t asked;
    float *pixels;       /* [side, side, 3] */
    pthread_mutex_t lock; /* over all of it, and over the model's encoder */
};

struct latents {
    latents_pool *pool;
    batch_source *from;
    const char *kept;    /* where class pictures' moments are; "": nowhere */
    uint64_t encoded, found, refused;
    err refusal;         /* the first of these */
    known *picture;      /* whose contents were read for their digest */
    size_t pictures;
};

latents_pool *latents_pool_new(sd *model, int side, size_t bytes)
{
    latents_pool *p = NEW(latents_pool);
    int cells = side / vae_factor(sd_vae_shape(model));

    *p = (latents_pool){.model = model, .side = side};
    p->count = (size_t)cells * (size_t)cells * (size_t)sd_latent_channels(model);
    p->sets = bytes / (WAYS * 2 * p->count * sizeof(float)) + 1;
    if (p->sets > MOST_SETS)
        p->sets = MOST_SETS;
    p->at = NEW_N(place, p->sets * WAYS);
    p->pixels = NEW_N(float, side * side * 3);
    CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
    return p;
}

void latents_pool_free(latents_pool *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->sets * WAYS; i++)
        free(p->at[i].moments);
    free(p->at);
    free(p->pixels);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

latents *latents_new(latents_pool *pool, batch_source *from, const char *kept)
{
    latents *l = NEW(latents);

    CHECK(batch_side(from) == pool->side);
    *l = (latents){.pool = pool, .from = from, .kept = kept};
    return l;
}

void latents_free(latents *l)
{
    if (!l)
        return;
    free(l->picture);
    free(l);
}

/* Its place, or the one to fill. */
static place *look_up(latents_pool *pool, uint64_t key)
{
    place *set = pool->at + key % pool->sets * WAYS, *oldest = set;

    for (int i = 0; i < WAYS; i++) {
        if (set[i].used && set[i].key == key)
            return &set[i];
        if (set[i].used < oldest->used)
            oldest = &set[i];
    }
    return oldest;
}

/* ---- what is kept beyond this training ---- */

/* A class picture shown whole comes again, in every concept that uses it; another crop never does. */
static bool comes_again(const latents *l, const batch_sample *of)
{
    const augment_look *k = &of->look;

    return l->kept[0] && of->prior && of->other < 0 && k->high == l->pool->side && k->wide == l->pool->side && k->top == 0 && k->left == 0;
}

static int digest_of(latents *l, const subject_picture *p, const char **sha, err *e)
{
    for (size_t i = 0; i < l->pictures; i++)
        if (l->picture[i].id == p->id) {
            *sha = l->picture[i].sha;
            return 0;
        }
    l->picture = mem_grow(l->picture, l->pictures + 1, sizeof *l->picture);
    known *k = &l->picture[l->pictures];
    k->id = p->id;
    TRY(hash_file(p->path, k->sha, e));
    l->pictures++;
    *sha = k->sha;
    return 0;
}

/* All that decides the bits: the picture's bytes, how it is shown, the weights, and who computes. */
static int place_on_disk(char out[FS_PATH], latents *l, const batch_sample *of, err *e)
{
    const subject *s = &batch_subjects(l->from)->at[of->subject];
    const nn_backend *by = nn_params_backend(sd_params(l->pool->model));
    char vae[HASH_HEX], key[HASH_HEX];
    const char *sha;
    str all = {0};

    TRY(digest_of(l, &s->prior[of->picture], &sha, e));
    TRY(sd_digest(l->pool->model, "vae", vae, e));
    str_add(&all, "conceptfarm " CFARM_VERSION " moments\nvae %s\nby %s %s %s\npicture %s\nshown %s side %d flip %d\n", vae,
            by->name, nn_cpu_kind(), by->computes == NN_BF16 ? "bf16" : "f32", sha, batch_manner(l->from), l->pool->side, of->look.flip);
    hash_bytes(all.at, all.n, key);
    str_free(&all);
    return moments_path(out, l->kept, key, e);
}

static int compute(latents *l, const batch_sample *of, float *moments, err *e)
{
    latents_pool *p = l->pool;

    TRY(batch_pixels(l->from, of, p->pixels, e));
    TRY(sd_vae_encode(p->model, p->pixels, 1, p->side, p->side, moments, moments + p->count, e));
    l->encoded++;
    return 0;
}

/* A folder that cannot be written costs time and nothing else. */
static int find_or_compute(latents *l, const batch_sample *of, float *moments, err *e)
{
    char path[FS_PATH];

    if (!comes_again(l, of))
        return compute(l, of, moments, e);
    TRY(place_on_disk(path, l, of, e));
    if (moments_read(path, moments, 2 * l->pool->count)) {
        l->found++;
        return 0;
    }
    TRY(compute(l, of, moments, e));
    if (moments_write(path, moments, 2 * l->pool->count, l->refusal.code ? NULL : &l->refusal) != 0)
        l->refused++;
    return 0;
}

static int encode(latents *l, const batch_sample *of, place *to, err *e)
{
    to->used = 0;
    if (!to->moments)
        TRY(mem_big((void **)&to->moments, 2 * l->pool->count * sizeof(float), "moments of one picture", e));
    TRY(find_or_compute(l, of, to->moments, e));
    to->key = of->key;
    return 0;
}

static int sample(latents *l, const batch_sample *of, float *out, err *e)
{
    latents_pool *pool = l->pool;
    place *p = look_up(pool, of->key);

    if (!p->used || p->key != of->key)
        TRY(encode(l, of, p, e));
    p->used = ++pool->asked;
    vae_sample(sd_vae_shape(pool->model), p->moments, p->moments + pool->count, out, out, pool->count);
    return 0;
}

int latents_draw(latents *l, const batch_sample *of, rng_stream noise, float *out, err *e)
{
    rng_normal_fill(noise, out, l->pool->count);
    pthread_mutex_lock(&l->pool->lock);
    int rc = sample(l, of, out, e);
    pthread_mutex_unlock(&l->pool->lock);
    return rc;
}

void latents_tell(const latents *l, str *line)
{
    str_add(line, "%llu pictures encoded, %llu found encoded", (unsigned long long)l->encoded, (unsigned long long)l->found);
    if (l->kept[0])
        str_add(line, " in %s", l->kept);
    if (l->refused)
        str_add(line, "; %llu could not be kept: %s", (unsigned long long)l->refused, l->refusal.text);
}
