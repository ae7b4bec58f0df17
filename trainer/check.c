#include "trainer/check.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/farm_packs.h"
#include "trainer/pack.h"
#include "trainer/regset_make.h"
#include "trainer/train.h"

enum { DISK_SPARE = 16 << 20, LOOKS = 1024 };

/* Pictures looked at for one concept, which serve others that differ in their tokens. */
typedef struct {
    const data_cfg *of; /* NULL: none yet */
    subjects found;
} look;

typedef struct {
    const farmfile *farm;
    bool json;
    FILE *out, *wrong;
    int mistakes;
    bool base_ok;
    int factor;                  /* of the base's VAE: pixels to one latent */
    json_t *list;                /* what will run, for programs */
    concept_before before;
    tokenizer *words;            /* NULL: not opened yet */
    look *looks;                 /* [LOOKS], each where its first picture's name puts it; a later one takes the place */
    image_checks *seen;          /* pictures decoded so far: concepts share them */
} checking;

static void mistake(checking *c, const err *e)
{
    fprintf(c->wrong, "%s\n", e->text);
    c->mistakes++;
}

/* ---- one concept ---- */

static int check_words(checking *c, data_cfg *d, err *e)
{
    subject_word word[SUBJECT_WORDS_MOST];
    char dir[FS_PATH];
    int n;

    TRY(sd_path(dir, c->farm->base, "tokenizer", e));
    if (!c->words)
        TRY(tokenizer_open(&c->words, dir, e));
    int rc = subject_choose(d, c->words, e);
    if (rc == 0)
        rc = subject_words(word, &n, d, c->words, e);
    tokenizer_forget(c->words);
    return rc;
}

static int check_side(const checking *c, const data_cfg *d, err *e)
{
    if (c->base_ok && d->resolution > 0 && d->resolution % c->factor != 0)
        return err_set(e, ERR_INPUT, "resolution: %lld pixels are no multiple of the %d that this model's VAE makes one latent",
                       (long long)d->resolution, c->factor);
    return 0;
}

static int check_made(const data_cfg *d, err *e)
{
    for (int i = 0; i < data_subjects(d); i++)
        TRY(regset_make_check(&data_subject(d, i)->reg, e));
    return 0;
}

static bool stays_below(const char *path)
{
    size_t n;

    for (const char *at = path; *at; at += n + (at[n] == '/')) {
        n = strcspn(at, "/");
        if (n == 2 && at[0] == '.' && at[1] == '.')
            return false;
    }
    return path[0] != '/';
}

static int check_written(const char *key, const char *path, err *e)
{
    return stays_below(path) ? 0 : err_set(e, ERR_INPUT, "%s: '%.200s' leads out of the farm file's folder, and a farm writes nothing there; "
                                           "name a folder in it (or a link in it to another)", key, path);
}

/* What a training writes beside its result, in folders of the user's choice: whoever wrote the farm file, nothing above it. */
static int check_writes(const concept_cfg *of, err *e)
{
    TRY(check_written("regularisation_cache", of->how.kept, e));
    for (int i = 0; i < data_subjects(&of->data); i++)
        if (data_subject(&of->data, i)->reg.generate > 0)
            TRY(check_written("regularisation.images", data_subject(&of->data, i)->reg.images, e));
    return 0;
}

static int check_steps(const concept_cfg *of, err *e)
{
    int all = data_batch(&of->data) * (int)of->how.accumulate, leaves = train_leaves(&of->how, &of->data);

    if (all % leaves != 0 || (leaves & (leaves - 1)) != 0)
        return err_set(e, ERR_INPUT, "leaves: a step of %d samples cannot be cut into %d equal passes, a power of two", all, leaves);
    if (of->how.warmup > of->how.steps)
        return err_set(e, ERR_INPUT, "warmup: %lld steps of %lld", (long long)of->how.warmup, (long long)of->how.steps);
    return 0;
}

static void show(checking *c, const farm_concept *f, const concept_cfg *of, const subjects *s)
{
    uint32_t targets = 0, priors = 0;
    str chosen = {0};            /* "csm dog, wdw cat" */
    char alike[PACK_CLASS];

    for (int i = 0; i < s->n; i++) {
        if (data_chosen(&of->data, i)[0])
            str_add(&chosen, "%s%s %s", chosen.n ? ", " : "", data_chosen(&of->data, i), s->at[i].cfg->class_word);
        targets += s->at[i].targets;
        priors += s->at[i].priors + s->at[i].later;
    }
    if (c->json) {
        json_t *o = json_pack("{s:s s:s s:i s:i s:i s:i s:i s:f s:s*}", "name", f->name, "method", method_names[of->how.method],
                              "pictures", (int)targets, "class_pictures", (int)priors, "steps", (int)of->how.steps, "batch",
                              data_batch(&of->data), "leaves", train_leaves(&of->how, &of->data), "lr", of->how.lr,
                              "identifiers", chosen.at);
        pack_class(alike, of, 0);
        if (alike[0] && (c->farm->limits.pack_max != CFG_WORD || farm_packs(c->farm, alike, NULL) > 1))
            json_object_set_new(o, "alike", json_string(alike));
        json_array_append_new(c->list, o);
        str_free(&chosen);
        return;
    }
    fprintf(c->out, "%-20s %-18s %3u pictures of %-14s %4u class pictures  %5lld steps of %d  lr %g%s%s\n", f->name,
            method_names[of->how.method], targets, data_subject(&of->data, 0)->class_word, priors, (long long)of->how.steps,
            data_batch(&of->data), of->how.lr, chosen.n ? "  said as " : "", chosen.n ? chosen.at : "");
    str_free(&chosen);
}

static look *look_for(checking *c, const data_cfg *d)
{
    cfg_texts images = data_subject(d, 0)->images;
    uint32_t h = 0x811c9dc5; /* FNV-1a, 32 bits */

    for (const char *s = images.n ? images.at[0] : ""; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x01000193;
    return &c->looks[h % LOOKS];
}

static void close_look(look *l)
{
    if (l->of)
        subjects_close(&l->found);
    l->of = NULL;
}

/* Likeness to an index's captions is judged when it is used: that takes the text encoder. */
static int check_pictures(checking *c, const farm_concept *f, const concept_cfg *of, err *e)
{
    look *l = look_for(c, &of->data);

    if (!l->of || !subjects_serve(&l->found, l->of, &of->data)) {
        close_look(l);
        TRY(subjects_look(&l->found, &of->data, c->seen, e));
        l->of = &of->data;
    }
    show(c, f, of, &l->found);
    return 0;
}

static int check_concept(checking *c, const farm_concept *f, cfg_doc *d, concept_cfg *of, err *e)
{
    TRY(concept_cfg_fill_next(of, &c->before, d, f->settings, e));
    TRY(data_check(&of->data, e));
    TRY(check_side(c, &of->data, e));
    TRY(check_steps(of, e));
    TRY(train_check(&of->how, &of->data, e));
    TRY(check_made(&of->data, e));
    TRY(check_writes(of, e));
    if (c->base_ok)
        TRY(check_words(c, &of->data, e));
    return check_pictures(c, f, of, e);
}

/* ---- concepts against each other ---- */

/* Who has a word: the first concept at all, and the first that does not hold it for a word of the vocabulary; -1: nobody. */
static void find_token(const json_t *first, const char *word, bool rare, int *at)
{
    const json_t *o = json_object_get(first, word), *k = o ? json_object_get(o, rare ? "own" : "any") : NULL;

    *at = k ? (int)json_integer_value(k) : -1;
}

static void keep_token(json_t *first, const char *word, bool rare, size_t i)
{
    json_t *o = json_object_get(first, word);

    if (!o)
        json_object_set_new(first, word, o = json_pack("{s:I}", "any", (json_int_t)i));
    if (!rare && !json_object_get(o, "own"))
        json_object_set_new(o, "own", json_integer((json_int_t)i));
}

static const char *given_token(const concept_cfg *of, int which)
{
    cfg_texts t = data_subject(&of->data, which)->token;

    return t.n > 0 && strcmp(t.at[0], "none") != 0 ? t.at[0] : NULL;
}

/* Given tokens must differ over the farm: who writes <rex> twice means one of them to be another. The tokens that are
 * given to nobody in particular (<new1>) may be shared, a merge renames them; so may words of the vocabulary. */
static void check_tokens(checking *c, const concept_cfg *of)
{
    json_t *first = json_object();

    for (size_t i = 0; i < c->farm->concept_count; i++) {
        bool rare = of[i].data.manner.rare_words;
        for (int a = 0; a < data_subjects(&of[i].data); a++) {
            const char *word = given_token(&of[i], a);
            err e = {0};
            int k = -1;
            if (word)
                find_token(first, word, rare, &k);
            if (k < 0)
                continue;
            cfg_fail(&e, c->farm->concepts[i].at, "concept %s: token %s is concept %s's, too; give it one of its own",
                     c->farm->concepts[i].name, word, c->farm->concepts[k].name);
            mistake(c, &e);
        }
        for (int a = 0; a < data_subjects(&of[i].data); a++)
            if (given_token(&of[i], a))
                keep_token(first, given_token(&of[i], a), rare, i);
    }
    json_decref(first);
}

static const concept_cfg *cfg_named(const checking *c, const concept_cfg *of, const char *name)
{
    const farm_concept *f = farm_find(c->farm, name);

    return f ? &of[f - c->farm->concepts] : NULL;
}

/* Methods whose concepts cannot become one, before anything is taught. A file's method is the merge program's affair. */
static void check_merge(checking *c, const farm_merge *m, const concept_cfg *of)
{
    const method **by = NEW_N(const method *, m->of.n + 1);
    const char **name = NEW_N(const char *, m->of.n + 1);
    int n = 0;
    err e = {0}, why = {0};

    for (size_t i = 0; i < m->of.n; i++) {
        const concept_cfg *one = cfg_named(c, of, m->of.at[i]);
        if (!one)
            continue;
        by[n] = method_find(method_names[one->how.method]);
        name[n++] = m->of.at[i];
    }
    if (method_check_merge(by, name, n, &why) != 0) {
        cfg_fail(&e, m->at, "merge %s: %s", m->name, why.text);
        mistake(c, &e);
    }
    free(by);
    free(name);
}

/* What of the base other settings must fit. */
static int look_at_base(checking *c, err *e)
{
    return sd_check(c->farm->base, &c->factor, e);
}

/* What the farm asks of the machines and this build cannot give. Devices are the workers' to find: where a farm is planned
 * there may be none. */
static void check_backend(checking *c)
{
    err e = {0};

    if (c->farm->backend != FARM_BACKEND_CUDA || nn_cuda_built(&e) == 0)
        return;
    err_wrap(&e, "%s: backend: cuda", c->farm->path);
    mistake(c, &e);
}

static void check_disk(checking *c)
{
    uint64_t free_bytes;
    char at[FS_PATH];
    err e = {0};

    snprintf(at, sizeof at, "%s", c->farm->dir);
    while (!fs_is_dir(at) && strrchr(at, '/') > at)
        *strrchr(at, '/') = '\0';   /* the farm's folder may not be there yet: ask its parent's disk */
    if (fs_free_bytes(at, &free_bytes, &e) != 0) {
        mistake(c, &e);
        return;
    }
    uint64_t need = DISK_SPARE * (uint64_t)(c->farm->concept_count + 1);
    if (free_bytes < need) {
        err_set(&e, ERR_IO, "%s: %llu MiB are free and %zu concepts want %llu; give dir: another disk", at,
                (unsigned long long)(free_bytes >> 20), c->farm->concept_count, (unsigned long long)(need >> 20));
        mistake(c, &e);
    }
}

int check_farm(const farmfile *farm, bool json, FILE *out, FILE *wrong)
{
    checking c = {.farm = farm, .json = json, .out = out, .wrong = wrong, .list = json_array(),
                  .looks = NEW_N(look, LOOKS), .seen = image_checks_new()};
    concept_cfg *all = NEW_N(concept_cfg, farm->concept_count + 1);
    err e = {0};

    train_on_gpu(farm->backend == FARM_BACKEND_CUDA);
    c.base_ok = look_at_base(&c, &e) == 0;
    if (!c.base_ok)
        mistake(&c, &e);
    for (size_t i = 0; i < farm->concept_count; i++) {
        const farm_concept *f = &farm->concepts[i];
        if (check_concept(&c, f, farm->doc, &all[i], &e) == 0)
            continue;
        err_wrap(&e, "concept %s", f->name);
        mistake(&c, &e);
    }
    if (c.mistakes == 0)
        check_tokens(&c, all);
    for (size_t i = 0; i < farm->merge_count && c.mistakes == 0; i++)
        check_merge(&c, &farm->merges[i], all);
    check_backend(&c);
    check_disk(&c);
    json_t *o = json_pack("{s:o}", "concepts", c.list);
    if (json) {
        json_dumpf(o, out, JSON_COMPACT);
        fputc('\n', out);
    }
    json_decref(o);
    for (int i = 0; i < LOOKS; i++)
        close_look(&c.looks[i]);
    free(c.looks);
    tokenizer_close(c.words);
    image_checks_free(c.seen);
    free(all);
    return c.mistakes;
}
