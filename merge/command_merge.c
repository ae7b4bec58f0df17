/* cfarm merge a.h5 b.h5 -o merged.h5 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/store.h"
#include "merge/again.h"
#include "merge/cards.h"
#include "merge/command.h"
#include "merge/compose.h"
#include "merge/preview.h"
#include "merge/sums.h"
#include "trainer/method/method.h"

typedef struct {
    const char *out, *base, *captions, *features;
    cfg_texts rename, remove, weight;
    int bos, relax;
    double ridge, drift;
    bool accept_drift, factors_only, json;
    cards_cfg cards;
    cfg_texts class_word;
    cfg_texts prompt;
    const char *preview;
    int steps;
} settings;

static const char *const BOS[] = {"fixed", "free", NULL};
static const char *const RELAX[] = {"no", "ridge", "bank", NULL};
enum { RELAX_NO, RELAX_RIDGE, RELAX_BANK };
static const char *const AUTO[] = {"auto", NULL};
enum { MANY = 8 }; /* files: fewer are read before another thread is awake */

static const cfg_field ROWS[] = {
    {"out", CFG_TEXT, CFG_AT(settings, out), NULL, 1, 4000, .help = "the merged file; also -o"},
    {"base", CFG_TEXT, CFG_AT(settings, base), "",
     .help = "the base model's folder, or its .safetensors; left out: where the concepts say it "
             "was. Not needed with --factors-only once its captions' features are kept"},
    {"rename", CFG_TEXTS, CFG_AT(settings, rename), "",
     .help = "FILE:<old>=<new>: another word for a token; may be given "
             "again. Words that clash are renamed anyway, to the next free <newN>"},
    {"remove", CFG_TEXTS, CFG_AT(settings, remove), "",
     .help = "NAME: leaves out a concept of a merged file that is given; may be given again"},
    {"weight", CFG_TEXTS, CFG_AT(settings, weight), "",
     .help = "NAME=0.5: how much of a concept's update is wanted; may be given again"},
    {"bos", CFG_CHOICE, CFG_AT(settings, bos), "fixed", .names = BOS,
     .help = "whether the first token, the same in every "
             "prompt, keeps its keys and values; free: as published"},
    {"relax", CFG_CHOICE, CFG_AT(settings, relax), "no", .names = RELAX,
     .help = "ridge: concepts that conflict may be missed a little; the file says by how much. bank: no merge, but all "
             "concepts exactly, beside a base that stays as it is; what samples from such a file must know banks (cfarm does)"},
    {"ridge", CFG_REAL, CFG_AT(settings, ridge), "auto", 1e-12, 1e12, .names = AUTO,
     .help = "weight of the ridge; auto: "
             "the smallest that keeps the drift"},
    {"drift", CFG_PERCENT, CFG_AT(settings, drift), "10%", 1e-6, 10,
     .help = "how far --relax ridge may move what the base "
             "says of its captions"},
    {"accept-drift", CFG_BOOL, CFG_AT(settings, accept_drift), "false",
     .help = "write even where the base changes by more "
             "than all it had"},
    {"factors-only", CFG_BOOL, CFG_AT(settings, factors_only), "false",
     .help = "without the full matrices: lossless and "
             "small, for readers that know factors (cfarm does)"},
    {"captions", CFG_TEXT, CFG_AT(settings, captions), "",
     .help = "a file with a caption a line, whose features are to "
             "stay; left out: 1,250 of our own"},
    {"features", CFG_TEXT, CFG_AT(settings, features), "",
     .help = "where the captions' features are kept; left out: in "
             "the cache folder"},
    CARDS_ROWS(settings, cards),
    {"class", CFG_TEXTS, CFG_AT(settings, class_word), "",
     .help = "NAME=dog: the class word that a concept is held to beside its word, in place of its own; may be given again"},
    {"prompt", CFG_TEXTS, CFG_AT(settings, prompt), "",
     .help = "also pictures of this, in the merged file's words, by the base, by each concept and by the merged file, side "
             "by side; may be given again"},
    {"preview", CFG_TEXT, CFG_AT(settings, preview), "", .help = "the folder for them; left out: OUT without .h5, and -preview"},
    {"steps", CFG_INT, CFG_AT(settings, steps), "50", 1, 1000, .unit = "steps", .help = "calls of the model for a picture of --prompt"},
    {"json", CFG_BOOL, CFG_AT(settings, json), "false", .help = "the certificate as JSON on the standard output"},
    CFG_END,
};

typedef struct {
    const settings *set;
    char *const *given; /* [n_given] the arguments */
    int n_given;
    char **file; /* [n] a name for each concept: its file, or what it is called in a merged one */
    bool *is_file; /* [n] which of both */
    double *weight;
    int n;
    logger *log;
    concept *in;
    int *source;   /* [n] which source of `start` each is; -1: a file of its own, or another merged one's, with images */
    concept start; /* the first merged file that is given, while its concepts need it, and its name */
    const char *start_file;
    bool renewed; /* merged is start with a few changes: images of start are not in it */
    base_model base;
    struct { /* kept features, read while the concepts are */
        pthread_t thread;
        bool on;
        char path[FS_PATH];
        features f;
        int rc;
    } early;
    features f;
    char **captions;
    int n_captions;
    char captions_hash[HASH_HEX];
    compose_name *names;
    int n_names;
    concept merged;
    certificate told;
} job;

/* False: they were not read, or could not be. */
static bool take_early(job *j)
{
    bool there = j->early.on && pthread_join(j->early.thread, NULL) == 0 && j->early.rc == 0;
    j->early.on = false;
    if (there)
        j->f = j->early.f;
    return there;
}

static void close_job(job *j)
{
    take_early(j);
    for (int i = 0; i < j->n; i++) {
        concept_free(&j->in[i]);
        free(j->file[i]);
    }
    free(j->file);
    free(j->is_file);
    free(j->weight);
    for (int i = 0; i < j->n_names; i++) {
        free((char *)(uintptr_t)j->names[i].old);
        free((char *)(uintptr_t)j->names[i].now);
    }
    free(j->names);
    free(j->in);
    free(j->source);
    concept_free(&j->start);
    captions_free(j->captions);
    features_free(&j->f);
    base_close(&j->base);
    concept_free(&j->merged);
    certificate_free(&j->told);
}

/* ---- --rename FILE:<old>=<new> ---- */

static bool has_word(const concept *c, const char *word)
{
    for (int t = 0; t < c->n_tokens; t++)
        if (strcmp(c->tokens[t].word, word) == 0)
            return true;
    return false;
}

/* The file named before the colon; without one the only file that has the word. -1: none, or several. */
static int file_of(const job *j, const char *name, size_t n, const char *word)
{
    int found = -1, count = 0;
    for (int i = 0; i < j->n; i++) {
        const char *path = j->file[i], *base = fs_base(path);
        bool named =
            (strlen(path) == n && memcmp(path, name, n) == 0) || (strlen(base) == n && memcmp(base, name, n) == 0);
        if (n > 0 ? named : has_word(&j->in[i], word)) {
            found = i;
            count++;
        }
    }
    return count == 1 ? found : -1;
}

static int read_rename(job *j, const char *text, err *e)
{
    const char *colon = strstr(text, ":<"), *old = colon ? colon + 1 : text, *equals = strchr(old, '=');
    compose_name *name;
    char *word;
    if (!equals || !equals[1])
        return err_set(e, ERR_INPUT, "--rename %s is not of the form FILE:<old>=<new>", text);
    word = mem_new((size_t)(equals - old) + 1, 1);
    memcpy(word, old, (size_t)(equals - old));
    j->names = mem_grow(j->names, (size_t)j->n_names + 1, sizeof *j->names);
    name = &j->names[j->n_names++];
    *name = (compose_name){.old = word, .now = mem_text(equals + 1)};
    name->from = file_of(j, text, colon ? (size_t)(colon - text) : 0, word);
    if (name->from < 0)
        return err_set(e, ERR_INPUT, "--rename %s: %s", text,
                       colon ? "no file of that name is merged"
                             : "not exactly one file has that word; put FILE: in front");
    return 0;
}

/* ---- reading and opening ---- */

static concept *push(job *j, const char *name, bool is_file, double weight)
{
    size_t n = (size_t)j->n + 1;
    j->in = mem_grow(j->in, n, sizeof *j->in);
    j->file = mem_grow(j->file, n, sizeof *j->file);
    j->is_file = mem_grow(j->is_file, n, sizeof *j->is_file);
    j->weight = mem_grow(j->weight, n, sizeof *j->weight);
    j->source = mem_grow(j->source, n, sizeof *j->source);
    j->in[j->n] = (concept){0};
    j->source[j->n] = -1;
    j->file[j->n] = mem_text(name);
    j->is_file[j->n] = is_file;
    j->weight[j->n] = weight;
    return &j->in[j->n++];
}

/* The concepts of a merged file, as if their own had been given; without images where it stays open. */
static int take_apart(job *j, const concept *merged, bool stays, err *e)
{
    concept *parts = NEW_N(concept, merged->n_sources + 1);
    int rc = j->set->remove.n > 0 && again_is_shared(merged)
                 ? err_set(e, ERR_INPUT, "concepts in it share rows, which leave with the first that asks for them; merge the "
                                         "files it was made of")
                 : again_open(parts, merged, e);
    for (int i = 0; i < merged->n_sources; i++) {
        if (rc != 0) {
            concept_free(&parts[i]);
            continue;
        }
        if (!stays)
            again_images(&parts[i], merged, i);
        *push(j, merged->sources[i].name, false, merged->sources[i].weight) = parts[i];
        j->source[j->n - 1] = stays ? i : -1;
    }
    free(parts);
    return rc;
}

/* Takes c. */
static int take_given(job *j, const char *path, concept c, err *e)
{
    bool first = j->start.n_sources == 0;
    int rc;
    if (c.kind != CONCEPT_MERGED || (c.factors.rank == 0 && c.bank.n == 0)) {
        *push(j, path, true, 1) = c;
        return 0;
    }
    rc = first ? 0 : concept_read_left(&c, path, e);
    if (rc == 0)
        rc = take_apart(j, &c, first, e);
    if (rc == 0 && first) {
        j->start = c;
        j->start_file = path;
    } else {
        concept_free(&c);
    }
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

/* Each on a core of its own, for every byte is hashed; the first error is the first file's. */
static int read_given(job *j, err *e)
{
    concept *c = NEW_N(concept, j->n_given);
    err *wrong = NEW_N(err, j->n_given);
    int rc = 0;
#pragma omp parallel for schedule(dynamic) if (j->n_given >= MANY)
    for (int i = 0; i < j->n_given; i++)
        concept_read(&c[i], j->given[i], CONCEPT_CARD | CONCEPT_ROWS, &wrong[i]);
    for (int i = 0; i < j->n_given; i++) {
        if (rc == 0 && wrong[i].code == ERR_NONE) {
            rc = take_given(j, j->given[i], c[i], e);
            continue;
        }
        if (rc == 0) {
            *e = wrong[i];
            rc = (int)e->code;
        }
        if (wrong[i].code == ERR_NONE)
            concept_free(&c[i]);
    }
    free(c);
    free(wrong);
    return rc;
}

/* From here on nobody needs the merged file. */
static int take_images(job *j, err *e)
{
    TRY(concept_read_left(&j->start, j->start_file, e));
    for (int i = 0; i < j->n; i++)
        if (j->source[i] >= 0)
            again_images(&j->in[i], &j->start, j->source[i]);
    concept_free(&j->start);
    return 0;
}

/* By its file's name, with or without folders and ".h5"; -1: none, or several. */
static int named(const job *j, const char *name, size_t n)
{
    int found = -1, count = 0;
    for (int i = 0; i < j->n; i++) {
        const char *base = fs_base(j->file[i]);
        size_t stem = strlen(base) - (str_ends(base, ".h5") ? 3 : 0);
        if ((strlen(j->file[i]) == n && memcmp(j->file[i], name, n) == 0) || (strlen(base) == n && memcmp(base, name, n) == 0) ||
            (stem == n && memcmp(base, name, n) == 0)) {
            found = i;
            count++;
        }
    }
    return count == 1 ? found : -1;
}

static int remove_one(job *j, const char *name, err *e)
{
    int i = named(j, name, strlen(name));
    if (i < 0)
        return err_set(e, ERR_INPUT, "--remove %s: not exactly one concept has that name", name);
    concept_free(&j->in[i]);
    free(j->file[i]);
    j->n--;
    memmove(j->in + i, j->in + i + 1, (size_t)(j->n - i) * sizeof *j->in);
    memmove(j->file + i, j->file + i + 1, (size_t)(j->n - i) * sizeof *j->file);
    memmove(j->is_file + i, j->is_file + i + 1, (size_t)(j->n - i) * sizeof *j->is_file);
    memmove(j->source + i, j->source + i + 1, (size_t)(j->n - i) * sizeof *j->source);
    memmove(j->weight + i, j->weight + i + 1, (size_t)(j->n - i) * sizeof *j->weight);
    return j->n > 0 ? 0 : err_set(e, ERR_INPUT, "--remove %s: nothing is left to merge", name);
}

static int weigh_one(job *j, const char *text, err *e)
{
    const char *equals = strrchr(text, '=');
    char *end;
    double weight = equals ? strtod(equals + 1, &end) : 0;
    int i = equals ? named(j, text, (size_t)(equals - text)) : -1;
    if (!equals || !equals[1] || *end || !(weight > 0 && weight <= 10))
        return err_set(e, ERR_INPUT, "--weight %s: NAME=NUMBER is wanted, above 0 and at most 10; 0 is --remove", text);
    if (i < 0)
        return err_set(e, ERR_INPUT, "--weight %s: not exactly one concept has that name", text);
    j->weight[i] = weight;
    return 0;
}

static int change_concepts(job *j, err *e)
{
    const settings *s = j->set;
    for (size_t i = 0; i < s->remove.n; i++)
        TRY(remove_one(j, s->remove.at[i], e));
    for (size_t i = 0; i < s->weight.n; i++)
        TRY(weigh_one(j, s->weight.at[i], e));
    return 0;
}

static int read_concepts(job *j, err *e)
{
    TRY(read_given(j, e));
    TRY(change_concepts(j, e));
    for (int i = 0; i < j->n; i++)
        if (strcmp(j->in[i].base, j->in[0].base) != 0)
            return err_set(e, ERR_INPUT,
                           "%s and %s were trained on different base models (fingerprints %.12s and %.12s)", j->file[0],
                           j->file[i], j->in[0].base, j->in[i].base);
    for (size_t i = 0; i < j->set->rename.n; i++)
        TRY(read_rename(j, j->set->rename.at[i], e));
    return 0;
}

/* The one way all of them become one. Files of no method of ours (a merged one's first source is told) ask for cards. */
static int find_way(const job *j, method_merge *way, err *e)
{
    const method **by = NEW_N(const method *, j->n);
    for (int i = 0; i < j->n; i++)
        by[i] = method_find(j->in[i].method) ? method_find(j->in[i].method) : method_find(METHOD_USUAL);
    *way = by[0]->merges;
    int rc = method_check_merge(by, (const char *const *)j->file, j->n, e);
    free(by);
    return rc;
}

/* Shifts and words add up without a base model and without anything to solve. */
static int merge_sums(job *j, const compose_opts *o, err *e)
{
    for (int i = 0; i < j->n; i++) {
        concept_free(&j->in[i]);
        TRY(concept_read(&j->in[i], j->file[i], CONCEPT_TENSORS, e));
    }
    TRY(sums(&j->merged, j->in, (const char *const *)j->file, j->n, o, e));
    TRY(concept_write(j->set->out, &j->merged, e));
    sums_tell(stdout, &j->merged);
    return fflush(stdout) == 0 ? 0 : err_set(e, ERR_IO, "the standard output cannot be written");
}

static int need_base(job *j, err *e)
{
    if (j->base.model)
        return 0;
    return base_open(&j->base, j->set->base, j->in[0].base_path, j->in[0].base, e);
}

/* Full matrices read all of the base that its fingerprint is made of: both at once. */
typedef struct {
    job *j;
    err e;
    int rc;
} checker;

static void *check_base(void *arg)
{
    checker *c = arg;
    c->rc = base_check(&c->j->base, c->j->in[0].base, &c->e);
    return NULL;
}

static void tell_encoding(void *arg, int done, int n)
{
    log_progress(arg, "features of captions, once for a base model: %d of %d", done, n);
}

/* ---- other rows than those kept in the files ---- */

static int read_classes(const job *j, const char *word[], err *e)
{
    const cfg_texts *list = &j->set->class_word;
    for (size_t k = 0; k < list->n; k++) {
        const char *text = list->at[k], *equals = strrchr(text, '=');
        int i = equals ? named(j, text, (size_t)(equals - text)) : -1;
        if (!equals || !equals[1])
            return err_set(e, ERR_INPUT, "--class %s: NAME=WORD is wanted", text);
        if (i < 0)
            return err_set(e, ERR_INPUT, "--class %s: not exactly one concept has that name", text);
        word[i] = equals + 1;
    }
    return 0;
}

static int remake_cards(job *j, const char *const class_word[], err *e)
{
    TRY(need_base(j, e));
    for (int i = 0; i < j->n; i++) {
        int rc = j->is_file[i]
                     ? cards_remake(&j->in[i], j->file[i], j->base.model, &j->set->cards, class_word[i], e)
                     : err_set(e, ERR_INPUT, "is in a merged file, which keeps no matrices to make other rows of; give its own");
        if (rc != 0)
            return err_wrap(e, "%s", j->file[i]);
    }
    return 0;
}

static int choose_rows(job *j, method_merge way, err *e)
{
    const settings *s = j->set;
    const char **class_word;
    int rc;
    if (cards_are_usual(&s->cards) && s->class_word.n == 0)
        return 0;
    if (way == MERGE_SUMS)
        return err_set(e, ERR_INPUT, "these concepts add up, and there are no rows that --rows, --template or --class could choose");
    class_word = NEW_N(const char *, j->n);
    rc = read_classes(j, class_word, e);
    if (rc == 0)
        rc = remake_cards(j, class_word, e);
    free(class_word);
    return rc;
}

/* A cache that cannot be written costs time at the next merge and nothing else. */
static int make_features(job *j, const char *path, err *e)
{
    err late = {0};
    const char *slash = strrchr(path, '/');
    char dir[FS_PATH];
    double start = clock_s();
    TRY(need_base(j, e));
    TRY(features_make(&j->f, j->base.model, j->captions, j->n_captions, tell_encoding, j->log, e));
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 0, path);
    if ((dir[0] && fs_mkdirs(dir, &late) != 0) || features_write(path, &j->f, &late) != 0)
        log_event(j->log, "warning", TEXT("text", "the captions' features are not kept"), TEXT("why", late.text));
    else
        log_event(j->log, "features", INT("captions", j->n_captions), TEXT("kept", path),
                  REAL("seconds", clock_s() - start));
    return 0;
}

/* Where they are kept for this base model. */
static int find_features(job *j, char path[FS_PATH], const char *base, err *e)
{
    if (!j->captions) {
        TRY(captions_read(&j->captions, &j->n_captions, j->set->captions[0] ? j->set->captions : NULL, e));
        captions_hash(j->captions_hash, j->captions, j->n_captions);
    }
    if (!j->set->features[0])
        return features_path(path, base, j->captions_hash, e);
    str_copy(path, FS_PATH, j->set->features);
    return 0;
}

static void *read_early(void *arg)
{
    job *j = arg;
    j->early.rc = features_read(&j->early.f, j->early.path, NULL);
    return NULL;
}

/* Both the concepts and the features are mostly hashed. The first file's word for its base is enough: whatever is wrong here is
 * found again, and told, by open_features. */
static void start_features(job *j)
{
    store *s;
    char *base = NULL;
    if (store_open(&s, j->given[0], NULL) != 0)
        return;
    if (store_get_text(s, "/", "base", &base, NULL) == 0 && find_features(j, j->early.path, base, NULL) == 0 &&
        fs_exists(j->early.path))
        j->early.on = pthread_create(&j->early.thread, NULL, read_early, j) == 0;
    free(base);
    store_close(s);
}

static int read_features(job *j, const char *path, err *e)
{
    if (!fs_exists(path))
        return make_features(j, path, e);
    if (features_read(&j->f, path, e) == 0)
        return 0;
    if (j->set->features[0])
        return (int)e->code;
    log_event(j->log, "warning", TEXT("text", "kept features are made again"), TEXT("why", e->text));
    *e = (err){0};
    return make_features(j, path, e);
}

static int open_features(job *j, err *e)
{
    char path[FS_PATH];
    bool any = j->set->features[0] && !j->set->captions[0]; /* a file of features given alone speaks for itself */
    TRY(find_features(j, path, j->in[0].base, e));
    if (!take_early(j))
        TRY(read_features(j, path, e));
    if (strcmp(j->f.base, j->in[0].base) != 0 || (!any && strcmp(j->f.captions, j->captions_hash) != 0))
        return err_set(e, ERR_INPUT, "%s holds the features of %s", path,
                       strcmp(j->f.base, j->in[0].base) ? "another base model" : "other captions");
    return 0;
}

/* ---- the merge ---- */

static int check_settings(const settings *s, err *e)
{
    if (s->relax != RELAX_RIDGE && s->ridge > 0)
        return err_set(e, ERR_INPUT, "--ridge is the weight of --relax ridge, which is not given");
    return cards_check(&s->cards, e);
}

static int read_base(void *model, const char *name, float *out, size_t count, err *e)
{
    char full[512];
    snprintf(full, sizeof full, "unet.%.500s", name);
    return sd_file_read(model, full, out, count, e);
}

static int fuse_all(job *j, err *e)
{
    return fuse(&j->merged, j->in, j->n, read_base, j->base.model, e);
}

static int fuse_checked(job *j, err *e)
{
    checker c = {.j = j};
    pthread_t thread;
    int rc;
    if (j->base.model)
        return fuse_all(j, e);
    TRY(base_open(&j->base, j->set->base, j->in[0].base_path, NULL, e));
    if (pthread_create(&thread, NULL, check_base, &c) != 0)
        return err_set(e, ERR_MEMORY, "no thread for the base model's fingerprint");
    rc = fuse_all(j, e);
    pthread_join(thread, NULL);
    if (c.rc != 0) /* the reason of whatever went wrong above */
        *e = c.e;
    return c.rc != 0 ? c.rc : rc;
}

/* What changes lie behind each other in the file, until they are more than the images. */
static bool is_worth_renewing(const job *j)
{
    const concept_factors *f = &j->merged.factors;
    struct stat st;
    return j->renewed && j->set->factors_only && stat(j->start_file, &st) == 0 &&
           (double)st.st_size < 2.0 * f->rank * (double)(f->outs + 4 * f->width) * sizeof(float);
}

static int renew(job *j, err *e)
{
    bool *kept = NEW_N(bool, j->n);
    int rc;
    for (int i = 0; i < j->n; i++)
        kept[i] = j->source[i] >= 0;
    rc = concept_renew(j->set->out, &j->merged, kept, j->start_file, j->start.digest, e);
    free(kept);
    return rc;
}

static int write_merged(job *j, err *e)
{
    if (is_worth_renewing(j))
        return renew(j, e);
    if (j->renewed) {
        TRY(concept_read_left(&j->start, j->start_file, e));
        again_whole(&j->merged, &j->start, j->source);
        concept_free(&j->start);
    }
    if (!j->set->factors_only && j->merged.bank.n == 0)
        TRY(fuse_checked(j, e));
    return concept_write(j->set->out, &j->merged, e);
}

static int tell(const job *j, double seconds, err *e)
{
    if (j->set->json) {
        puts(j->merged.certificate);
    } else {
        json_t *c;
        TRY(json_parse(&c, j->merged.certificate, strlen(j->merged.certificate), "certificate", e));
        certificate_show(stdout, c);
        json_decref(c);
    }
    log_event(j->log, "merged", INT("concepts", j->n), TEXT("out", j->set->out), REAL("seconds", seconds));
    return fflush(stdout) == 0 ? 0 : err_set(e, ERR_IO, "the standard output cannot be written");
}

/* A few concepts more or less are a small change of the merged file; whatever else is solved anew. */
static int compose_any(job *j, const compose_opts *o, err *e)
{
    const char *const *file = (const char *const *)j->file, *why = NULL;
    compose_start start = {&j->start, j->source};
    if (j->set->relax == RELAX_BANK) {
        TRY(take_images(j, e));
        return compose_bank(&j->merged, &j->told, j->in, file, j->n, &j->f, o, e);
    }
    if (j->start.n_sources > 0)
        TRY(compose_again(&j->merged, &j->told, &why, &start, j->in, file, j->n, &j->f, o, e));
    j->renewed = j->start.n_sources > 0 && !why;
    if (j->renewed)
        return 0;
    if (j->start.n_sources > 0)
        log_event(j->log, "anew", TEXT("text", "all rows are solved anew"), TEXT("why", why));
    TRY(take_images(j, e));
    return compose(&j->merged, &j->told, j->in, file, j->n, &j->f, o, e);
}

static int show_prompts(job *j, err *e)
{
    const settings *s = j->set;
    char dir[FS_PATH];
    size_t stem = strlen(s->out) - (str_ends(s->out, ".h5") ? 3 : 0);
    if (s->prompt.n == 0)
        return 0;
    if (s->preview[0])
        str_copy(dir, sizeof dir, s->preview);
    else
        snprintf(dir, sizeof dir, "%.*s-preview", (int)stem, s->out);
    preview_job p = {.base = s->base[0] ? s->base : j->in[0].base_path,
                     .merged = s->out,
                     .in = j->in,
                     .out = &j->merged,
                     .file = (const char *const *)j->file,
                     .n = j->n,
                     .prompt = (const char *const *)s->prompt.at,
                     .prompts = (int)s->prompt.n,
                     .steps = s->steps,
                     .dir = dir};
    TRY(preview(&p, e));
    log_event(j->log, "preview", TEXT("out", dir));
    return 0;
}

static int merge(job *j, err *e)
{
    const settings *s = j->set;
    double start = clock_s();
    compose_opts o = {.bos_free = s->bos == 1,
                      .relax = s->relax == RELAX_RIDGE,
                      .ridge = s->ridge > 0 ? s->ridge : 0,
                      .drift_most = s->drift,
                      .accept_drift = s->accept_drift};
    method_merge way;
    TRY(check_settings(s, e));
    start_features(j);
    TRY(read_concepts(j, e));
    TRY(find_way(j, &way, e));
    TRY(choose_rows(j, way, e));
    o.names = j->names;
    o.n_names = j->n_names;
    o.weight = j->weight;
    if (way == MERGE_SUMS)
        return merge_sums(j, &o, e);
    TRY(open_features(j, e));
    TRY(compose_any(j, &o, e));
    TRY(write_merged(j, e));
    TRY(tell(j, clock_s() - start, e));
    return show_prompts(j, e);
}

static int run(const void *set, char *const file[], int n, logger *log, err *e)
{
    job j = {.set = set, .given = file, .n_given = n, .log = log};
    int rc = merge(&j, e);
    close_job(&j);
    return rc;
}

const command command_merge = {
    "merge", "A.h5 B.h5 ... -o OUT.h5", "several concepts into one model; a merged file stands for the concepts in it",
    ROWS, sizeof(settings), 1, -1, run};
