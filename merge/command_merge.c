/* cfarm merge a.h5 b.h5 -o merged.h5 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/again.h"
#include "merge/command_merge_impl.h"
#include "merge/preview.h"
#include "merge/sums.h"
#include "trainer/method/method.h"

static const char *const BOS[] = {"fixed", "free", NULL};
static const char *const RELAX[] = {"no", "ridge", "bank", NULL};
enum { RELAX_NO, RELAX_RIDGE, RELAX_BANK };
static const char *const AUTO[] = {"auto", NULL};

static const cfg_field ROWS[] = {
    {"out", CFG_TEXT, CFG_AT(merge_settings, out), NULL, 1, 4000, .help = "the merged file; also -o"},
    {"base", CFG_TEXT, CFG_AT(merge_settings, base), "",
     .help = "the base model's folder, or its .safetensors; left out: where the concepts say it "
             "was. Not needed with --factors-only once its captions' features are kept"},
    {"rename", CFG_TEXTS, CFG_AT(merge_settings, rename), "",
     .help = "FILE:<old>=<new>: another word for a token; may be given "
             "again. Words that clash are renamed anyway, to the next free <newN>"},
    {"remove", CFG_TEXTS, CFG_AT(merge_settings, remove), "",
     .help = "NAME: leaves out a concept of a merged file that is given; may be given again"},
    {"weight", CFG_TEXTS, CFG_AT(merge_settings, weight), "",
     .help = "NAME=0.5: how much of a concept's update is wanted; may be given again"},
    {"bos", CFG_CHOICE, CFG_AT(merge_settings, bos), "fixed", .names = BOS,
     .help = "whether the first token, the same in every "
             "prompt, keeps its keys and values; free: as published"},
    {"relax", CFG_CHOICE, CFG_AT(merge_settings, relax), "no", .names = RELAX,
     .help = "ridge: concepts that conflict may be missed a little; the file says by how much. bank: no merge, but all "
             "concepts exactly, beside a base that stays as it is; what samples from such a file must know banks (cfarm does)"},
    {"ridge", CFG_REAL, CFG_AT(merge_settings, ridge), "auto", 1e-12, 1e12, .names = AUTO,
     .help = "weight of the ridge; auto: "
             "the smallest that keeps the drift"},
    {"drift", CFG_PERCENT, CFG_AT(merge_settings, drift), "10%", 1e-6, 10,
     .help = "how far --relax ridge may move what the base "
             "says of its captions"},
    {"accept-drift", CFG_BOOL, CFG_AT(merge_settings, accept_drift), "false",
     .help = "write even where the base changes by more "
             "than all it had"},
    {"factors-only", CFG_BOOL, CFG_AT(merge_settings, factors_only), "false",
     .help = "without the full matrices: lossless and "
             "small, for readers that know factors (cfarm does)"},
    {"captions", CFG_TEXT, CFG_AT(merge_settings, captions), "",
     .help = "a file with a caption a line, whose features are to "
             "stay; left out: 1,250 of our own"},
    {"features", CFG_TEXT, CFG_AT(merge_settings, features), "",
     .help = "where the captions' features are kept; left out: in "
             "the cache folder"},
    CARDS_ROWS(merge_settings, cards),
    {"class", CFG_TEXTS, CFG_AT(merge_settings, class_word), "",
     .help = "NAME=dog: the class word that a concept is held to beside its word, in place of its own; may be given again"},
    {"prompt", CFG_TEXTS, CFG_AT(merge_settings, prompt), "",
     .help = "also pictures of this, in the merged file's words, by the base, by each concept and by the merged file, side "
             "by side; may be given again"},
    {"preview", CFG_TEXT, CFG_AT(merge_settings, preview), "",
     .help = "the folder for them; left out: OUT without .h5, and -preview"},
    {"steps", CFG_INT, CFG_AT(merge_settings, steps), "50", 1, 1000, .unit = "steps",
     .help = "calls of the model for a picture of --prompt"},
    {"json", CFG_BOOL, CFG_AT(merge_settings, json), "false", .help = "the certificate as JSON on the standard output"},
    CFG_END,
};

static void close_job(merge_job *j)
{
    merge_take_early(j);
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

/* The one way all of them become one. Files of no method of ours (a merged one's first source is told) ask for cards. */
static int find_way(const merge_job *j, method_merge *way, err *e)
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
static int merge_sums(merge_job *j, const compose_opts *o, err *e)
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

/* Full matrices read all of the base that its fingerprint is made of: both at once. */
typedef struct {
    merge_job *j;
    err e;
    int rc;
} checker;

static void *check_base(void *arg)
{
    checker *c = arg;
    c->rc = base_check(&c->j->base, c->j->in[0].base, &c->e);
    return NULL;
}

/* ---- other rows than those kept in the files ---- */

static int read_classes(const merge_job *j, const char *word[], err *e)
{
    const cfg_texts *list = &j->set->class_word;
    for (size_t k = 0; k < list->n; k++) {
        const char *text = list->at[k], *equals = strrchr(text, '=');
        int i = equals ? merge_named(j, text, (size_t)(equals - text)) : -1;
        if (!equals || !equals[1])
            return err_set(e, ERR_INPUT, "--class %s: NAME=WORD is wanted", text);
        if (i < 0)
            return err_set(e, ERR_INPUT, "--class %s: not exactly one concept has that name", text);
        word[i] = equals + 1;
    }
    return 0;
}

static int remake_cards(merge_job *j, const char *const class_word[], err *e)
{
    TRY(merge_need_base(j, e));
    for (int i = 0; i < j->n; i++) {
        int rc = j->is_file[i]
                     ? cards_remake(&j->in[i], j->file[i], j->base.model, &j->set->cards, class_word[i], e)
                     : err_set(e, ERR_INPUT, "is in a merged file, which keeps no matrices to make other rows of; give its own");
        if (rc != 0)
            return err_wrap(e, "%s", j->file[i]);
    }
    return 0;
}

static int choose_rows(merge_job *j, method_merge way, err *e)
{
    const merge_settings *s = j->set;
    const char **class_word;
    int rc;
    if (cards_are_usual(&s->cards) && s->class_word.n == 0)
        return 0;
    if (way == MERGE_SUMS)
        return err_set(e, ERR_INPUT, "these concepts add up, and there are no rows that --rows, --template or --class could "
                                     "choose");
    class_word = NEW_N(const char *, j->n);
    rc = read_classes(j, class_word, e);
    if (rc == 0)
        rc = remake_cards(j, class_word, e);
    free(class_word);
    return rc;
}

/* ---- the merge ---- */

static int check_settings(const merge_settings *s, err *e)
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

static int fuse_all(merge_job *j, err *e)
{
    return fuse(&j->merged, j->in, j->n, read_base, j->base.model, e);
}

static int fuse_checked(merge_job *j, err *e)
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
static bool is_worth_renewing(const merge_job *j)
{
    const concept_factors *f = &j->merged.factors;
    struct stat st;
    return j->renewed && j->set->factors_only && stat(j->start_file, &st) == 0 &&
           (double)st.st_size < 2.0 * f->rank * (double)(f->outs + 4 * f->width) * sizeof(float);
}

static int renew(merge_job *j, err *e)
{
    bool *kept = NEW_N(bool, j->n);
    int rc;
    for (int i = 0; i < j->n; i++)
        kept[i] = j->source[i] >= 0;
    rc = concept_renew(j->set->out, &j->merged, kept, j->start_file, j->start.digest, e);
    free(kept);
    return rc;
}

static int write_merged(merge_job *j, err *e)
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

static int tell(const merge_job *j, double seconds, err *e)
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
static int compose_any(merge_job *j, const compose_opts *o, err *e)
{
    const char *const *file = (const char *const *)j->file, *why = NULL;
    compose_start start = {&j->start, j->source};
    if (j->set->relax == RELAX_BANK) {
        TRY(merge_take_images(j, e));
        return compose_bank(&j->merged, &j->told, j->in, file, j->n, &j->f, o, e);
    }
    if (j->start.n_sources > 0)
        TRY(compose_again(&j->merged, &j->told, &why, &start, j->in, file, j->n, &j->f, o, e));
    j->renewed = j->start.n_sources > 0 && !why;
    if (j->renewed)
        return 0;
    if (j->start.n_sources > 0)
        log_event(j->log, "anew", TEXT("text", "all rows are solved anew"), TEXT("why", why));
    TRY(merge_take_images(j, e));
    return compose(&j->merged, &j->told, j->in, file, j->n, &j->f, o, e);
}

static int show_prompts(merge_job *j, err *e)
{
    const merge_settings *s = j->set;
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

static int merge(merge_job *j, err *e)
{
    const merge_settings *s = j->set;
    double start = clock_s();
    compose_opts o = {.bos_free = s->bos == 1,
                      .relax = s->relax == RELAX_RIDGE,
                      .ridge = s->ridge > 0 ? s->ridge : 0,
                      .drift_most = s->drift,
                      .accept_drift = s->accept_drift};
    method_merge way;
    TRY(check_settings(s, e));
    merge_start_features(j);
    TRY(merge_read_concepts(j, e));
    TRY(find_way(j, &way, e));
    TRY(choose_rows(j, way, e));
    o.names = j->names;
    o.n_names = j->n_names;
    o.weight = j->weight;
    if (way == MERGE_SUMS)
        return merge_sums(j, &o, e);
    TRY(merge_open_features(j, e));
    TRY(compose_any(j, &o, e));
    TRY(write_merged(j, e));
    TRY(tell(j, clock_s() - start, e));
    return show_prompts(j, e);
}

static int run(const void *set, char *const file[], int n, logger *log, err *e)
{
    merge_job j = {.set = set, .given = file, .n_given = n, .log = log};
    int rc = merge(&j, e);
    close_job(&j);
    return rc;
}

const command command_merge = {
    "merge", "A.h5 B.h5 ... -o OUT.h5", "several concepts into one model; a merged file stands for the concepts in it",
    ROWS, sizeof(merge_settings), 1, -1, run};
