/* Four ways a set, the one unused longest makes room. */
#include "trainer/latents.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/moments.h"

enum { WAYS = 4, MOST_SETS = 1 << 16 };
#define TEXTS_KEPT ((size_t)128 << 20)

typedef struct {
    uint64_t key, used;  /* used: 0 for an empty place */
    float *values;
} place;

typedef struct {
    place *at;           /* [sets][WAYS] */
    size_t sets, count;  /* numbers of one */
} shelf;

typedef struct {
    uint64_t id;         /* of a picture's path */
    char sha[HASH_HEX];
} known;

struct latents_pool {
    sd *model;
    int side;
    size_t count;        /* of a latent */
    shelf pictures;      /* mean [count], logvar [count] */
    shelf texts;         /* states [TOKENS, width] */
    uint64_t asked;
    float *pixels;       /* [side, side, 3] */
    pthread_mutex_t lock; /* over all of it, and over the model's encoders */
};

struct latents {
    latents_pool *pool;
    batch_source *from;
    const char *kept;    /* where class pictures' moments are; "": nowhere */
    uint64_t encoded, found, refused, said, read; /* pictures encoded and found on disk, texts; not kept */
    err refusal;         /* the first of these */
    known *picture;      /* whose contents were read for their digest */
    size_t pictures;
};

static shelf shelf_new(size_t count, size_t bytes)
{
    shelf s = {.count = count, .sets = bytes / (WAYS * count * sizeof(float)) + 1};

    if (s.sets > MOST_SETS)
        s.sets = MOST_SETS;
    s.at = NEW_N(place, s.sets * WAYS);
    return s;
}

static void shelf_free(shelf *s)
{
    for (size_t i = 0; i < s->sets * WAYS; i++)
        free(s->at[i].values);
    free(s->at);
}

latents_pool *latents_pool_new(sd *model, int side, size_t bytes)
{
    latents_pool *p = NEW(latents_pool);
    int cells = side / vae_factor(sd_vae_shape(model));

    *p = (latents_pool){.model = model, .side = side};
    p->count = (size_t)cells * (size_t)cells * (size_t)sd_latent_channels(model);
    p->pictures = shelf_new(2 * p->count, bytes);
    p->texts = shelf_new((size_t)TOKENS * (size_t)sd_text_shape(model)->width, TEXTS_KEPT);
    p->pixels = NEW_N(float, side * side * 3);
    CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
    return p;
}

void latents_pool_free(latents_pool *p)
{
    if (!p)
        return;
    shelf_free(&p->pictures);
    shelf_free(&p->texts);
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
static place *look_up(const shelf *s, uint64_t key)
{
    place *set = s->at + key % s->sets * WAYS, *oldest = set;

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

static void add_who(str *to, const nn_backend *by, bool bf16)
{
    if (by->kind)
        str_add(to, "by %s", by->kind);
    else
        str_add(to, "by %s %s", by->name, nn_cpu_kind());
    str_add(to, " %s\n", bf16 ? "bf16" : "f32");
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
    str_add(&all, "conceptfarm " CFARM_VERSION " moments\nvae %s\n", vae);
    add_who(&all, by, by->computes == NN_BF16);
    str_add(&all, "picture %s\nshown %s side %d flip %d\n", sha, batch_manner(l->from), l->pool->side, of->look.flip);
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

/* What is known of this key, or what make says. A place that could not be filled is empty. */
static int values_of(float **out, latents *l, const shelf *s, uint64_t key, const batch_sample *of,
                     int (*make)(latents *l, const batch_sample *of, float *values, err *e), err *e)
{
    place *p = look_up(s, key);

    if (!p->used || p->key != key) {
        p->used = 0;
        if (!p->values)
            TRY(mem_big((void **)&p->values, s->count * sizeof(float), "what is encoded once", e));
        TRY(make(l, of, p->values, e));
        p->key = key;
    }
    p->used = ++l->pool->asked;
    *out = p->values;
    return 0;
}

static int sample(latents *l, const batch_sample *of, float *out, err *e)
{
    latents_pool *pool = l->pool;
    float *moments;

    TRY(values_of(&moments, l, &pool->pictures, of->key, of, find_or_compute, e));
    vae_sample(sd_vae_shape(pool->model), moments, moments + pool->count, out, out, pool->count);
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

/* ---- texts ---- */

static bool in_bf16(const latents *l, bool exact)
{
    return !exact && nn_params_backend(sd_params(l->pool->model))->computes == NN_BF16;
}

/* All that decides the bits: the ids, the weights, and who computes in what. */
static int text_on_disk(char out[FS_PATH], latents *l, const int32_t *ids, bool exact, err *e)
{
    char encoder[HASH_HEX], key[HASH_HEX];
    str all = {0};

    TRY(sd_digest(l->pool->model, "text_encoder", encoder, e));
    str_add(&all, "conceptfarm " CFARM_VERSION " text\nencoder %s\n", encoder);
    add_who(&all, nn_params_backend(sd_params(l->pool->model)), in_bf16(l, exact));
    str_add(&all, "ids");
    for (int i = 0; i < TOKENS; i++)
        str_add(&all, " %d", (int)ids[i]);
    hash_bytes(all.at, all.n, key);
    str_free(&all);
    return moments_path(out, l->kept, key, e);
}

static int say(latents *l, const int32_t *ids, bool exact, float *states, err *e)
{
    l->said++;
    return (exact ? sd_text_encode : sd_text_states)(l->pool->model, ids, 1, TOKENS, states, e);
}

/* Captions of class pictures come again in every concept that uses these; a subject's own never do. */
static int read_or_say(latents *l, const batch_sample *of, bool exact, float *states, err *e)
{
    size_t count = l->pool->texts.count;
    char path[FS_PATH];

    if (!l->kept[0] || !of->prior || of->other >= 0)
        return say(l, of->tokens, exact, states, e);
    TRY(text_on_disk(path, l, of->tokens, exact, e));
    if (moments_read(path, states, count)) {
        l->read++;
        return 0;
    }
    TRY(say(l, of->tokens, exact, states, e));
    if (moments_write(path, states, count, l->refusal.code ? NULL : &l->refusal) != 0)
        l->refused++;
    return 0;
}

static int say_exactly(latents *l, const batch_sample *of, float *states, err *e) { return read_or_say(l, of, true, states, e); }

static int say_as_passes(latents *l, const batch_sample *of, float *states, err *e) { return read_or_say(l, of, false, states, e); }

static uint64_t text_key(const int32_t ids[TOKENS], bool bf16)
{
    uint64_t h = 0xcbf29ce484222325 + bf16; /* FNV-1a, 64 bits, by whole ids */

    for (int i = 0; i < TOKENS; i++)
        h = (h ^ (uint64_t)ids[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

int latents_text(latents *l, const batch_sample *of, bool exact, float *out, err *e)
{
    float *states;

    pthread_mutex_lock(&l->pool->lock);
    int rc = values_of(&states, l, &l->pool->texts, text_key(of->tokens, in_bf16(l, exact)), of,
                       exact ? say_exactly : say_as_passes, e);
    if (rc == 0)
        memcpy(out, states, l->pool->texts.count * sizeof *out);
    pthread_mutex_unlock(&l->pool->lock);
    return rc;
}

void latents_tell(const latents *l, str *line)
{
    str_add(line, "%llu pictures encoded, %llu found encoded", (unsigned long long)l->encoded, (unsigned long long)l->found);
    if (l->said + l->read > 0)
        str_add(line, ", %llu texts encoded, %llu found encoded", (unsigned long long)l->said, (unsigned long long)l->read);
    if (l->kept[0])
        str_add(line, " in %s", l->kept);
    if (l->refused)
        str_add(line, "; %llu could not be kept: %s", (unsigned long long)l->refused, l->refusal.text);
}
