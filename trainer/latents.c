/* Four ways a set, the one unused longest makes room. */
#include "trainer/latents.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/moments.h"

enum { WAYS = 4, MOST_SETS = 1 << 16, TOGETHER = 8 };
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
    float *pixels;       /* [TOGETHER, side, side, 3] */
    int32_t *ids;        /* [TOGETHER, TOKENS] */
    float *made;         /* of up to TOGETHER samples: means and then logvars, or states */
    pthread_mutex_t lock; /* over all of it, and over the model's encoders */
};

struct latents {
    latents_pool *pool;
    batch_source *from;
    const char *kept;    /* where class pictures' moments are; "": nowhere */
    uint64_t encoded, found, refused, said, read; /* pictures encoded and found on disk, not kept; texts */
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
    size_t most = p->pictures.count > p->texts.count ? p->pictures.count : p->texts.count;
    p->pixels = NEW_N(float, TOGETHER * (size_t)side * (size_t)side * 3);
    p->ids = NEW_N(int32_t, TOGETHER * TOKENS);
    p->made = NEW_N(float, TOGETHER * most);
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
    free(p->ids);
    free(p->made);
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

static bool in_bf16(const latents *l, bool exact)
{
    return !exact && nn_params_backend(sd_params(l->pool->model))->computes == NN_BF16;
}

/* All that decides the bits: the ids, the weights, and who computes in what. */
static int text_on_disk(char out[FS_PATH], const latents *l, const int32_t *ids, bool exact, err *e)
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

static uint64_t text_key(const int32_t ids[TOKENS], bool bf16)
{
    uint64_t h = 0xcbf29ce484222325 + bf16; /* FNV-1a, 64 bits, by whole ids */

    for (int i = 0; i < TOKENS; i++)
        h = (h ^ (uint64_t)ids[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

/* ---- pictures and texts alike ---- */

static bool is_text(latents_what w) { return w != LATENTS_PICTURE; }
static shelf *shelf_of(latents_pool *p, latents_what w) { return is_text(w) ? &p->texts : &p->pictures; }

static uint64_t key_of(const latents *l, const batch_sample *of, latents_what w)
{
    return is_text(w) ? text_key(of->tokens, in_bf16(l, w == LATENTS_TEXT_EXACT)) : of->key;
}

/* Beyond this training: a class picture shown whole does, in every concept that uses it, and its caption; another crop and a
 * subject's own never do. */
static bool comes_again(const latents *l, const batch_sample *of, latents_what w)
{
    const augment_look *k = &of->look;
    bool whole = k->high == l->pool->side && k->wide == l->pool->side && k->top == 0 && k->left == 0;

    return l->kept[0] && of->prior && of->other < 0 && (is_text(w) || whole);
}

static int path_of(char out[FS_PATH], latents *l, const batch_sample *of, latents_what w, err *e)
{
    return is_text(w) ? text_on_disk(out, l, of->tokens, w == LATENTS_TEXT_EXACT, e) : place_on_disk(out, l, of, e);
}

/* What is known of it, in memory or on disk; else its place, taken for it, *waits for values. */
static int look_for(place **out, bool *waits, latents *l, const batch_sample *of, latents_what w, err *e)
{
    const shelf *s = shelf_of(l->pool, w);
    uint64_t key = key_of(l, of, w);
    place *p = *out = look_up(s, key);
    char path[FS_PATH];

    *waits = !p->used || p->key != key;
    if (*waits) {
        p->used = 0;
        if (!p->values)
            TRY(mem_big((void **)&p->values, s->count * sizeof(float), "what is encoded once", e));
        if (comes_again(l, of, w)) {
            TRY(path_of(path, l, of, w, e));
            *waits = !moments_read(path, p->values, s->count);
            *(is_text(w) ? &l->read : &l->found) += !*waits;
        }
        p->key = key;
    }
    p->used = ++l->pool->asked;
    return 0;
}

/* As number k of those that are made together. */
static int gather(latents *l, const batch_sample *of, latents_what w, int k, err *e)
{
    latents_pool *p = l->pool;
    size_t each = (size_t)p->side * (size_t)p->side * 3;

    if (!is_text(w))
        return batch_pixels(l->from, of, p->pixels + (size_t)k * each, e);
    memcpy(p->ids + k * TOKENS, of->tokens, sizeof of->tokens);
    return 0;
}

static int make(latents_pool *p, latents_what w, int n, err *e)
{
    if (w == LATENTS_TEXT_EXACT)
        return sd_text_encode(p->model, p->ids, n, TOKENS, p->made, e);
    if (w == LATENTS_TEXT)
        return sd_text_states(p->model, p->ids, n, TOKENS, p->made, e);
    return sd_vae_encode(p->model, p->pixels, n, p->side, p->side, p->made, p->made + (size_t)n * p->count, e);
}

/* Number i of n that were made. */
static void put(float *to, const latents_pool *p, latents_what w, int i, int n)
{
    size_t k = (size_t)i;

    if (is_text(w)) {
        memcpy(to, p->made + k * p->texts.count, p->texts.count * sizeof *to);
        return;
    }
    memcpy(to, p->made + k * p->count, p->count * sizeof *to);
    memcpy(to + p->count, p->made + ((size_t)n + k) * p->count, p->count * sizeof *to);
}

/* A folder that cannot be written costs time and nothing else. */
static void keep(latents *l, const batch_sample *of, latents_what w, const float *values)
{
    err *why = l->refusal.code ? NULL : &l->refusal;
    char path[FS_PATH];

    if (!comes_again(l, of, w))
        return;
    if (path_of(path, l, of, w, why) != 0 || moments_write(path, values, shelf_of(l->pool, w)->count, why) != 0)
        l->refused++;
}

typedef struct {
    latents *by;
    const batch_sample *of;
    place *at;
    uint64_t key;
} claim;

/* Those that were gathered. A place that could not be filled is empty; one that a later claim has taken is that one's. */
static int make_all(latents_pool *p, latents_what w, const claim c[], int n, err *e)
{
    int rc = n > 0 ? make(p, w, n, e) : 0;

    for (int i = 0; i < n; i++) {
        if (c[i].at->key != c[i].key)
            continue;
        if (rc != 0) {
            c[i].at->used = 0;
            continue;
        }
        put(c[i].at->values, p, w, i, n);
        keep(c[i].by, c[i].of, w, c[i].at->values);
        *(is_text(w) ? &c[i].by->said : &c[i].by->encoded) += 1;
    }
    return rc;
}

static int values_of(float **out, latents *l, const batch_sample *of, latents_what w, err *e)
{
    bool waits;
    place *p;

    TRY(look_for(&p, &waits, l, of, w, e));
    int rc = waits ? gather(l, of, w, 0, e) : 0;
    if (rc == 0 && waits)
        rc = make_all(l->pool, w, &(claim){l, of, p, p->key}, 1, e);
    if (rc != 0)
        p->used = 0;
    *out = p->values;
    return rc;
}

/* Pictures are shown side by side: each takes some milliseconds, in which a device would have nothing to do. Those that cannot be
 * are left out. Returns how many are there, in front. */
static int gather_all(latents_pool *p, latents_what w, claim c[], int n)
{
    const size_t each = (size_t)p->side * (size_t)p->side * 3;
    bool there[TOGETHER];
    int k = 0;

#pragma omp parallel for schedule(dynamic) if (n > 1 && !is_text(w))
    for (int i = 0; i < n; i++)
        there[i] = gather(c[i].by, c[i].of, w, i, NULL) == 0;
    for (int i = 0; i < n; i++) {
        if (!there[i]) {
            c[i].at->used = 0;
            continue;
        }
        if (k < i && !is_text(w))
            memcpy(p->pixels + (size_t)k * each, p->pixels + (size_t)i * each, each * sizeof *p->pixels);
        c[k++] = c[i];
    }
    return k;
}

static void prepare(latents_pool *p, latents_what w, claim c[], int n)
{
    make_all(p, w, c, gather_all(p, w, c, n), NULL);
}

void latents_prepare(const latents_wish wish[], int n, latents_what w)
{
    latents_pool *p = n > 0 ? wish->of->pool : NULL;
    claim c[TOGETHER];
    int k = 0;

    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < n; i++) {
        latents *l = wish[i].of;
        bool waits;
        place *at;
        CHECK(l->pool == p);
        if (look_for(&at, &waits, l, wish[i].sample, w, NULL) != 0 || !waits)
            continue;
        c[k++] = (claim){l, wish[i].sample, at, at->key};
        if (k == TOGETHER) {
            prepare(p, w, c, k);
            k = 0;
        }
    }
    prepare(p, w, c, k);
    pthread_mutex_unlock(&p->lock);
}

/* ---- what a step asks for ---- */

static int sample(latents *l, const batch_sample *of, float *out, err *e)
{
    latents_pool *pool = l->pool;
    float *moments;

    TRY(values_of(&moments, l, of, LATENTS_PICTURE, e));
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

int latents_text(latents *l, const batch_sample *of, latents_what w, float *out, err *e)
{
    float *states;

    CHECK(is_text(w));
    pthread_mutex_lock(&l->pool->lock);
    int rc = values_of(&states, l, of, w, e);
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
