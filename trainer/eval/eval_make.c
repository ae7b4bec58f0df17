/* The pictures that are measured: listed with their prompts, or made. A picture is a function of the model, the prompt,
 * the settings and its number, so one that is there from a run that was cut short is not made again; made.json says
 * which run that was. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/image.h"
#include "data/image_list.h"
#include "trainer/apply.h"
#include "trainer/diffusion/sampler.h"
#include "trainer/eval/eval.h"
#include "trainer/sample_batch.h"

enum { PROMPTS_MOST = 1 << 26 };

static int add_picture(evaluation *ev, const char *path, const eval_words *w, const char *prompt, err *e)
{
    eval_picture p = {.path = mem_text(path), .text = NAN, .image = NAN, .dino = NAN};
    int rc = prompt ? eval_words_fill(&p.said, &p.meant, w, prompt, e) : 0;

    ev->at = mem_grow(ev->at, (size_t)ev->n + 1, sizeof *ev->at);
    ev->at[ev->n++] = p;
    return rc;
}

/* ---- those that are there ---- */

/* {"00000": "a cat"} beside the pictures, as `cfarm sample` writes it. */
static int read_prompts(json_t **out, const char *dir, err *e)
{
    char path[FS_PATH];

    *out = NULL;
    TRY(fs_join(path, dir, "prompts.json", e));
    if (!fs_exists(path))
        return 0;
    TRY(json_read(out, path, e));
    return json_is_object(*out) ? 0 : err_set(e, ERR_INPUT, "%s: no map from a picture's name to its prompt", path);
}

static const char *prompt_of(const json_t *prompts, const char *path)
{
    char *stem = mem_text(fs_base(path)), *dot = strrchr(stem, '.');

    if (dot)
        *dot = '\0';
    const char *text = json_string_value(json_object_get(prompts, stem));
    free(stem);
    return text;
}

/* `cfarm sample` puts its sheet beside the pictures: with prompts, that one is none of them. */
static bool is_sheet(const char *path, const json_t *prompts)
{
    return prompts && strcmp(fs_base(path), "grid.png") == 0 && !prompt_of(prompts, path);
}

int eval_list(evaluation *out, const eval_cfg *set, const eval_words *w, err *e)
{
    image_list l = {0};
    json_t *prompts = NULL;
    int rc = image_list_add(&l, ".", set->pictures, e);

    if (rc == 0 && fs_is_dir(set->pictures))
        rc = read_prompts(&prompts, set->pictures, e);
    if (rc == 0 && !prompts)
        rc = image_list_beside(&l, e);
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        const char *prompt = prompts ? prompt_of(prompts, l.at[i].path) : l.at[i].caption;
        if (is_sheet(l.at[i].path, prompts))
            continue;
        if (prompts && !prompt)
            rc = err_set(e, ERR_INPUT, "%s/prompts.json: no prompt for %s", set->pictures, fs_base(l.at[i].path));
        else
            rc = add_picture(out, l.at[i].path, w, prompt, e);
    }
    json_decref(prompts);
    image_list_free(&l);
    return rc;
}

/* ---- those that are made ---- */

typedef struct {
    nn_backend *backend;
    sd *model;
    tokenizer *words;
    concept from;
    bool has_from;
    eval_words say;
    char **prompt;
    int prompts;
    char folder[FS_PATH];
    sample_batch *batch;       /* NULL: one after another */
    int at_once;
    float *pixels;             /* of at_once */
} maker;

static int open_model(maker *m, const eval_cfg *set, err *e)
{
    const char *model = set->model;
    char path[FS_PATH];

    if (set->from[0]) {
        TRY(concept_read(&m->from, set->from, CONCEPT_TENSORS | CONCEPT_FACTORS, e));
        m->has_from = true;
        model = *model ? model : m->from.base_path;
        if (!*model)
            return err_set(e, ERR_INPUT, "%s does not say where its base model is; give --model DIR", set->from);
    }
    TRY(nn_open(&m->backend, set->backend, 0, e));
    TRY(sd_open(&m->model, model, m->backend, e));
    TRY(sd_path(path, model, "tokenizer", e));
    TRY(tokenizer_open(&m->words, path, e));
    eval_words_of(&m->say, set, m->has_from ? &m->from : NULL);
    return m->has_from && apply_concept(m->model, m->words, &m->from, e) != 0 ? err_wrap(e, "%s", set->from) : 0;
}

static void add_prompt(maker *m, const char *text, size_t n)
{
    char *copy = mem_new(n + 1, 1);

    memcpy(copy, text, n);
    m->prompt = mem_grow(m->prompt, (size_t)m->prompts + 1, sizeof *m->prompt);
    m->prompt[m->prompts++] = copy;
}

static int collect_prompts(maker *m, const eval_cfg *set, err *e)
{
    char *text;
    size_t n;

    for (size_t i = 0; i < set->prompt.n; i++)
        add_prompt(m, set->prompt.at[i], strlen(set->prompt.at[i]));
    if (set->prompts[0]) {
        TRY(fs_read(set->prompts, &text, &n, PROMPTS_MOST, e));
        for (char *line = text; *line;) {
            size_t whole = strcspn(line, "\n"), length = strcspn(line, "\r\n");
            if (strspn(line, " \t\r") < length)
                add_prompt(m, line, length);
            line += whole + (line[whole] == '\n');
        }
        free(text);
    }
    return m->prompts > 0 ? 0 : err_set(e, ERR_INPUT, "%s: no prompt in it; a line each is wanted", set->prompts);
}

static sample_opts opts_of(const maker *m, const eval_cfg *set)
{
    int side = set->side == CFG_WORD ? sd_side(m->model) : set->side;

    return (sample_opts){.sampler = sampler_kind_at((size_t)set->sampler)->name, .steps = set->steps, .eta = set->eta,
                         .guidance = set->guidance, .seed = (uint64_t)set->seed, .width = side, .height = side};
}

/* What decides the pictures, as one digest: base, taught file, prompts, options. */
static int run_of(char hex[HASH_HEX], const maker *m, const eval_cfg *set, const sample_opts *o, err *e)
{
    char base[HASH_HEX], taught[HASH_HEX] = "";
    str all = {0};

    TRY(sd_fingerprint(m->model, base, e));
    if (m->has_from)
        TRY(hash_file(set->from, taught, e));
    str_add(&all, "%s %s %s %d %.17g %.17g %llu %d %d\n%s\n", base, taught, o->sampler, o->steps, o->eta, o->guidance,
            (unsigned long long)o->seed, o->width, set->count, set->negative);
    for (int i = 0; i < m->prompts; i++)
        str_add(&all, "%s\n", m->prompt[i]);
    hash_bytes(all.at, all.n, hex);
    str_free(&all);
    return 0;
}

/* The folder is this run's, or nobody's yet. */
static int claim_folder(const maker *m, const char hex[HASH_HEX], err *e)
{
    char path[FS_PATH];
    const char *was;
    json_t *o = NULL;

    TRY(fs_mkdirs(m->folder, e));
    TRY(fs_join(path, m->folder, "made.json", e));
    if (!fs_exists(path)) {
        char text[HASH_HEX + 16];
        int n = snprintf(text, sizeof text, "{\"run\": \"%s\"}\n", hex);
        return fs_write(path, text, (size_t)n, e);
    }
    TRY(json_read(&o, path, e));
    int rc = json_get_text(o, "run", &was, e);
    if (rc == 0 && strcmp(was, hex) != 0)
        rc = err_set(e, ERR_INPUT,
                     "%s: pictures of another model, prompt list or sampler lie there; give another --out or take "
                     "them away",
                     m->folder);
    json_decref(o);
    return rc;
}

/* How many at once: as asked for, where that can be. */
static int open_batch(maker *m, const eval_cfg *set, const sample_opts *o, int n, err *e)
{
    const char *no = sample_batch_declines(m->model, o);
    void *pixels;

    if (no && set->batch > 1)
        return err_set(e, ERR_INPUT, "batch: %s", no);
    m->at_once = no ? 1 : set->batch < n ? set->batch : n;
    if (set->batch == CFG_WORD)
        TRY(sample_batch_some(&m->batch, m->model, o, n, &m->at_once, e));
    else if (!no)
        TRY(sample_batch_open(&m->batch, m->model, o, m->at_once, e));
    TRY(mem_big(&pixels, (size_t)m->at_once * (size_t)o->width * (size_t)o->height * 3 * sizeof(float), "pictures", e));
    m->pixels = pixels;
    return 0;
}

static int keep_picture(const char *path, const float *pixels, const sample_opts *o, err *e)
{
    size_t n = (size_t)o->width * (size_t)o->height * 3;
    uint8_t *rgb = NEW_N(uint8_t, n);

    sample_bytes(pixels, rgb, n);
    int rc = image_write_png(path, rgb, o->height, o->width, e);
    free(rgb);
    return rc;
}

/* Pictures at[0 .. n - 1] of the evaluation's list, as many as are made at once. */
static int make_pictures(maker *m, const evaluation *ev, const eval_cfg *set, const sample_opts *o, const int at[], int n, err *e)
{
    size_t one = (size_t)o->width * (size_t)o->height * 3;
    sample_ask *asks = NEW_N(sample_ask, n + 1);

    for (int i = 0; i < n; i++)
        asks[i] = (sample_ask){ev->at[at[i]].said, set->negative, (uint32_t)(at[i] % set->count)};
    int rc = 0;
    if (n > 0 && m->batch)
        rc = sample_batch_run(m->batch, m->words, asks, n, m->pixels, e);
    else if (n > 0)
        rc = sample_picture(m->model, m->words, o, asks->prompt, asks->negative, asks->index, m->pixels, e);
    if (rc != 0)
        err_wrap(e, "%s", asks->prompt);
    for (int i = 0; i < n && rc == 0; i++)
        rc = keep_picture(ev->at[at[i]].path, m->pixels + (size_t)i * one, o, e);
    free(asks);
    return rc;
}

/* Those that are there are passed over. */
static int make_missing(maker *m, const evaluation *ev, const eval_cfg *set, const sample_opts *o, logger *log, err *e)
{
    int *at = NEW_N(int, m->at_once), n = 0, rc = 0;
    double start = clock_s();

    for (int i = 0; i < ev->n && rc == 0; i++) {
        if (!fs_exists(ev->at[i].path))
            at[n++] = i;
        if (n == m->at_once || i + 1 == ev->n) {
            rc = make_pictures(m, ev, set, o, at, n, e);
            n = 0;
            log_progress(log, "%d of %d pictures made, %.0f s", i + 1, ev->n, clock_s() - start);
        }
    }
    free(at);
    return rc;
}

static int write_prompts(const evaluation *ev, const char *folder, err *e)
{
    json_t *o = json_object();
    char path[FS_PATH], name[32];
    int rc = fs_join(path, folder, "prompts.json", e);

    for (int i = 0; i < ev->n; i++) {
        snprintf(name, sizeof name, "%05d", i);
        if (json_object_set_new(o, name, json_string(ev->at[i].said)) != 0 && rc == 0)
            rc = err_set(e, ERR_INPUT, "the prompt of picture %d is not UTF-8", i);
    }
    char *text = json_dumps(o, JSON_INDENT(1));
    if (rc == 0)
        rc = fs_write(path, text, strlen(text), e);
    free(text);
    json_decref(o);
    return rc;
}

static int make_all(evaluation *ev, maker *m, const eval_cfg *set, logger *log, err *e)
{
    char hex[HASH_HEX], name[32], path[FS_PATH];
    double start = clock_s();

    TRY(open_model(m, set, e));
    TRY(collect_prompts(m, set, e));
    sample_opts o = opts_of(m, set);
    TRY(sample_check(m->model, &o, e));
    TRY(fs_join(m->folder, set->out, "pictures", e));
    for (int i = 0; i < m->prompts * set->count; i++) {
        snprintf(name, sizeof name, "%05d.png", i);
        TRY(fs_join(path, m->folder, name, e));
        TRY(add_picture(ev, path, &m->say, m->prompt[i / set->count], e));
    }
    TRY(run_of(hex, m, set, &o, e));
    TRY(claim_folder(m, hex, e));
    TRY(write_prompts(ev, m->folder, e));
    TRY(open_batch(m, set, &o, ev->n, e));
    TRY(make_missing(m, ev, set, &o, log, e));
    log_event(log, "pictures", INT("count", ev->n), TEXT("folder", m->folder), REAL("seconds", clock_s() - start));
    return 0;
}

int eval_make(evaluation *out, const eval_cfg *set, logger *log, err *e)
{
    maker m = {0};
    int rc = make_all(out, &m, set, log, e);

    for (int i = 0; i < m.prompts; i++)
        free(m.prompt[i]);
    free(m.prompt);
    free(m.pixels);
    sample_batch_close(m.batch);
    eval_words_free(&m.say);
    if (m.has_from)
        concept_free(&m.from);
    tokenizer_close(m.words);
    sd_close(m.model);
    if (m.backend)
        m.backend->close(m.backend);
    return rc;
}
