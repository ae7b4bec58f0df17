/* cfarm merge a.h5 b.h5 -o merged.h5 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/command.h"
#include "merge/compose.h"
#include "merge/sums.h"
#include "trainer/method/method.h"

typedef struct {
    const char *out, *base, *captions, *features;
    cfg_texts rename;
    int bos, relax;
    double ridge, drift;
    bool accept_drift, factors_only, json;
} settings;

static const char *const BOS[] = {"fixed", "free", NULL};
static const char *const RELAX[] = {"no", "ridge", "bank", NULL};
enum { RELAX_NO, RELAX_RIDGE, RELAX_BANK };
static const char *const AUTO[] = {"auto", NULL};

static const cfg_field ROWS[] = {
    {"out", CFG_TEXT, CFG_AT(settings, out), NULL, 1, 4000, .help = "the merged file; also -o"},
    {"base", CFG_TEXT, CFG_AT(settings, base), "",
     .help = "the base model's folder; left out: where the concepts say it "
             "was. Not needed with --factors-only once its captions' features are kept"},
    {"rename", CFG_TEXTS, CFG_AT(settings, rename), "",
     .help = "FILE:<old>=<new>: another word for a token; may be given "
             "again. Words that clash are renamed anyway, to the next free <newN>"},
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
    {"json", CFG_BOOL, CFG_AT(settings, json), "false", .help = "the certificate as JSON on the standard output"},
    CFG_END,
};

typedef struct {
    const settings *set;
    char *const *file;
    int n;
    logger *log;
    concept *in;
    base_model base;
    features f;
    char **captions;
    int n_captions;
    compose_name *names;
    int n_names;
    concept merged;
    certificate told;
} job;

static void close_job(job *j)
{
    for (int i = 0; i < j->n; i++)
        concept_free(&j->in[i]);
    for (int i = 0; i < j->n_names; i++) {
        free((char *)(uintptr_t)j->names[i].old);
        free((char *)(uintptr_t)j->names[i].now);
    }
    free(j->names);
    free(j->in);
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

static int read_concepts(job *j, err *e)
{
    j->in = NEW_N(concept, j->n);
    for (int i = 0; i < j->n; i++) {
        TRY(concept_read(&j->in[i], j->file[i], CONCEPT_CARD, e));
        if (strcmp(j->in[i].base, j->in[0].base) != 0)
            return err_set(e, ERR_INPUT,
                           "%s and %s were trained on different base models (fingerprints %.12s and %.12s)", j->file[0],
                           j->file[i], j->in[0].base, j->in[i].base);
    }
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

static int open_features(job *j, err *e)
{
    char path[FS_PATH], captions[HASH_HEX];
    bool own = j->set->features[0] != '\0', any;
    TRY(captions_read(&j->captions, &j->n_captions, j->set->captions[0] ? j->set->captions : NULL, e));
    captions_hash(captions, j->captions, j->n_captions);
    if (own)
        str_copy(path, sizeof path, j->set->features);
    else
        TRY(features_path(path, j->in[0].base, captions, e));
    if (!fs_exists(path))
        return make_features(j, path, e);
    if (features_read(&j->f, path, e) != 0) {
        if (own)
            return (int)e->code;
        log_event(j->log, "warning", TEXT("text", "kept features are made again"), TEXT("why", e->text));
        *e = (err){0};
        return make_features(j, path, e);
    }
    any = own && !j->set->captions[0]; /* a file of features given alone speaks for itself */
    if (strcmp(j->f.base, j->in[0].base) != 0 || (!any && strcmp(j->f.captions, captions) != 0))
        return err_set(e, ERR_INPUT, "%s holds the features of %s", path,
                       strcmp(j->f.base, j->in[0].base) ? "another base model" : "other captions");
    return 0;
}

/* ---- the merge ---- */

static int check_settings(const settings *s, err *e)
{
    if (s->relax != RELAX_RIDGE && s->ridge > 0)
        return err_set(e, ERR_INPUT, "--ridge is the weight of --relax ridge, which is not given");
    return 0;
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

static int write_merged(job *j, err *e)
{
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

static int compose_any(concept *out, certificate *told, concept in[], const char *const file[], int n, const features *f,
                       const compose_opts *o, err *e)
{
    return compose(out, told, in, file, n, f, o, e);
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
    TRY(check_settings(s, e));
    method_merge way;
    TRY(read_concepts(j, e));
    TRY(find_way(j, &way, e));
    o.names = j->names;
    o.n_names = j->n_names;
    if (way == MERGE_SUMS)
        return merge_sums(j, &o, e);
    TRY(open_features(j, e));
    TRY((s->relax == RELAX_BANK ? compose_bank : compose_any)(&j->merged, &j->told, j->in, (const char *const *)j->file,
                                                              j->n, &j->f, &o, e));
    TRY(write_merged(j, e));
    return tell(j, clock_s() - start, e);
}

static int run(const void *set, char *const file[], int n, logger *log, err *e)
{
    job j = {.set = set, .file = file, .n = n, .log = log};
    int rc = merge(&j, e);
    close_job(&j);
    return rc;
}

const command command_merge = {
    "merge", "A.h5 B.h5 ... -o OUT.h5", "several concepts into one model", ROWS, sizeof(settings), 2, -1, run};
