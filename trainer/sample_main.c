/* cfarm-sample: pictures from a base model, a concept file or a merged file: a PNG each, prompts.json that says which
 * is which, and a grid with a row for each prompt. Exit status: 0 done, 1 not done, 2 flags that make no sense. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/log.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg.h"
#include "data/concept.h"
#include "data/image.h"
#include "trainer/apply.h"
#include "trainer/sample_batch.h"

typedef struct {
    const char *model, *prompts, *negative, *out, *backend;
    cfg_texts from, prompt;
    int sampler, steps, width, height, count, batch;
    double eta, guidance;
    int64_t seed;
    bool grid;
} settings;

enum { SAMPLERS_MOST = 16, SIDE_MOST = 8192 };
static const char *samplers[SAMPLERS_MOST + 1]; /* the names of sampler.h, filled at start */
static const char *const AUTO[] = {"auto", NULL};

static const cfg_field ROWS[] = {
    {"model", CFG_TEXT, CFG_AT(settings, model), "", .help = "the base model: a folder in the diffusers layout; may be left "
     "out with --from, which knows where it was"},
    {"from", CFG_TEXTS, CFG_AT(settings, from), "", .help = "a concept file or a merged file; without it the base alone; given again: "
     "each prompt is for the file whose word it has"},
    {"prompt", CFG_TEXTS, CFG_AT(settings, prompt), "", .help = "what to show; may be given again"},
    {"prompts", CFG_TEXT, CFG_AT(settings, prompts), "", .help = "a text file with a prompt a line"},
    {"negative", CFG_TEXT, CFG_AT(settings, negative), "", .help = "what guidance leads away from"},
    {"sampler", CFG_CHOICE, CFG_AT(settings, sampler), "ddim", .names = samplers, .help = "how noise becomes a picture"},
    {"steps", CFG_INT, CFG_AT(settings, steps), "50", 1, 1000, .unit = "steps", .help = "calls of the model for a picture"},
    {"eta", CFG_REAL, CFG_AT(settings, eta), "0", 0, 1, .help = "fresh noise in ddim's steps: 0 none, 1 as much as ddpm"},
    {"guidance", CFG_REAL, CFG_AT(settings, guidance), "6", 0, 100, .help = "weight of the prompt; 1: no guidance"},
    {"seed", CFG_INT, CFG_AT(settings, seed), "1", 0, 9e15, .help = "picture k of a prompt is a function of seed and k"},
    {"width", CFG_INT, CFG_AT(settings, width), "auto", 1, SIDE_MOST, .unit = "pixels", .names = AUTO,
     .help = "auto: what the model was made for"},
    {"height", CFG_INT, CFG_AT(settings, height), "auto", 1, SIDE_MOST, .unit = "pixels", .names = AUTO,
     .help = "auto: what the model was made for"},
    {"count", CFG_INT, CFG_AT(settings, count), "1", 1, 10000, .unit = "pictures", .help = "pictures of each prompt"},
    {"batch", CFG_INT, CFG_AT(settings, batch), "auto", 1, 64, .unit = "pictures", .names = AUTO,
     .help = "made at once on a GPU, whatever their prompts, by any sampler but pndm; auto: up to 8, as many as have room"},
    {"out", CFG_TEXT, CFG_AT(settings, out), "samples", 1, 4000, .help = "folder for 00000.png, ..., prompts.json and grid.png"},
    {"backend", CFG_TEXT, CFG_AT(settings, backend), "cpu", 1, 64, .help = "what computes: cpu, cuda or cuda:N, the N-th GPU from 0"},
    {"grid", CFG_BOOL, CFG_AT(settings, grid), "true", .help = "also grid.png, a row for each prompt"},
    CFG_END,
};

typedef struct {
    settings set;
    nn_backend *backend;
    sd *model;
    tokenizer *words;
    concept from;
    bool has_from;
    char *base_path;        /* as `from` says, where no model is given */
    bank *beside;           /* where `from` is a bank, or there are several */
    char **prompt;
    int prompts;
    sample_batch *batch;    /* NULL: one after another */
    float *pixels;          /* of those being made */
    uint8_t **picture;      /* [prompts * count] RGB */
    logger *log;
} job;

/* ---- prompts ---- */

static void add_prompt(job *j, const char *text, size_t n)
{
    char *copy = NEW_N(char, n + 1);

    memcpy(copy, text, n);
    j->prompt = mem_grow(j->prompt, (size_t)j->prompts + 1, sizeof *j->prompt);
    j->prompt[j->prompts++] = copy;
}

static int read_prompts(job *j, err *e)
{
    enum { FILE_MOST = 16 << 20 };
    char *text = NULL;
    size_t n;

    for (size_t i = 0; i < j->set.prompt.n; i++)
        add_prompt(j, j->set.prompt.at[i], strlen(j->set.prompt.at[i]));
    if (j->set.prompts[0]) {
        TRY(fs_read(j->set.prompts, &text, &n, FILE_MOST, e));
        for (char *line = text; *line;) {
            size_t whole = strcspn(line, "\n"), length = strcspn(line, "\r\n");
            if (strspn(line, " \t\r") < length)
                add_prompt(j, line, length);
            line += whole + (line[whole] == '\n');
        }
        free(text);
    }
    return j->prompts ? 0 : err_set(e, ERR_INPUT, "%s: no prompt in it; a line each is wanted", j->set.prompts);
}

/* "<new2>" that nothing explains is read as its letters, which is hardly meant. */
static void warn_of_words(const job *j, const char *prompt)
{
    for (const char *at = prompt; (at = strchr(at, '<')) != NULL; at++) {
        size_t n = strcspn(at, "> \t");
        bool known = at[n] != '>';

        for (int i = 0; !known && j->has_from && i < j->from.n_tokens; i++)
            known = strlen(j->from.tokens[i].word) == n + 1 && memcmp(j->from.tokens[i].word, at, n + 1) == 0;
        if (!known) {
            char word[64];
            snprintf(word, sizeof word, "%.*s", (int)n + 1, at);
            log_event(j->log, "warning", TEXT("text", "a word that the model was not taught"), TEXT("word", word),
                      TEXT("prompt", prompt));
        }
    }
}

/* ---- opening ---- */

static int open_from(job *j, err *e)
{
    const char *path = j->set.from.n > 0 ? j->set.from.at[0] : NULL;

    if (!path)
        return 0;
    TRY(concept_read(&j->from, path, CONCEPT_TENSORS | CONCEPT_FACTORS, e));
    j->has_from = true;
    if (!j->set.model[0]) {
        j->base_path = mem_text(j->from.base_path);
        j->set.model = j->base_path;
    }
    if (!j->set.model[0])
        return err_set(e, ERR_INPUT, "%s does not say where its base model is; give --model DIR", path);
    return 0;
}

/* The first is read already. */
static int lay_side_by_side(job *j, err *e)
{
    const cfg_texts *paths = &j->set.from;
    concept *files = NEW_N(concept, paths->n), all;
    int rc = 0;

    files[0] = j->from;
    j->has_from = false;
    for (size_t i = 1; i < paths->n && rc == 0; i++)
        rc = concept_read(&files[i], paths->at[i], CONCEPT_TENSORS | CONCEPT_FACTORS, e);
    if (rc == 0)
        rc = bank_of_plain(&all, j->model, files, paths->at, (int)paths->n, e);
    for (size_t i = 0; i < paths->n; i++)
        concept_free(&files[i]);
    free(files);
    if (rc != 0)
        return rc;
    j->from = all;
    j->has_from = true;
    return 0;
}

/* Of a bank, what the prompts ask for. */
static int open_bank(job *j, err *e)
{
    bool *wanted = NEW_N(bool, j->from.bank.n + 1);

    bank_wanted(wanted, &j->from, j->words, j->set.negative);
    for (int i = 0; i < j->prompts; i++)
        bank_wanted(wanted, &j->from, j->words, j->prompt[i]);
    int rc = j->set.from.n > 1 ? 0 : concept_read_shares(&j->from, j->set.from.at[0], wanted, e);
    free(wanted);
    for (int i = 0; i < j->prompts && rc == 0; i++)
        rc = bank_check_prompt(&j->from, j->words, j->prompt[i], e);
    return rc == 0 ? bank_open(&j->beside, j->model, &j->from, e) : rc;
}

static int open_model(job *j, err *e)
{
    char path[FS_PATH];

    TRY(open_from(j, e));
    TRY(nn_open(&j->backend, j->set.backend, 0, e));
    TRY(sd_open(&j->model, j->set.model, j->backend, e));
    TRY(sd_path(path, j->set.model, "tokenizer", e));
    TRY(tokenizer_open(&j->words, path, e));
    if (j->set.from.n > 1)
        TRY(lay_side_by_side(j, e));
    if (j->has_from && apply_concept(j->model, j->words, &j->from, e) != 0)
        return err_wrap(e, "%s", j->set.from.at[0]);
    return j->has_from && j->from.bank.n > 0 ? open_bank(j, e) : 0;
}

static void close_job(job *j)
{
    for (int i = 0; j->picture && i < j->prompts * j->set.count; i++)
        free(j->picture[i]);
    for (int i = 0; i < j->prompts; i++)
        free(j->prompt[i]);
    free(j->picture);
    free(j->prompt);
    free(j->base_path);
    free(j->pixels);
    sample_batch_close(j->batch);
    bank_close(j->beside);
    if (j->has_from)
        concept_free(&j->from);
    tokenizer_close(j->words);
    sd_close(j->model);
    if (j->backend)
        j->backend->close(j->backend);
    log_close(j->log);
}

/* ---- pictures ---- */

static sample_opts opts_of(const job *j)
{
    const settings *s = &j->set;
    int side = sd_side(j->model);

    return (sample_opts){.sampler = samplers[s->sampler], .steps = s->steps, .eta = s->eta, .guidance = s->guidance,
                         .seed = (uint64_t)s->seed, .beside = j->beside, .width = s->width == CFG_WORD ? side : s->width,
                         .height = s->height == CFG_WORD ? side : s->height};
}

static int write_picture(const job *j, int n, const sample_opts *o, err *e)
{
    char path[FS_PATH], name[32];

    snprintf(name, sizeof name, "%05d.png", n);
    TRY(fs_join(path, j->set.out, name, e));
    return image_write_png(path, j->picture[n], o->height, o->width, e);
}

static int keep_picture(job *j, int n, const sample_opts *o, const float *pixels, err *e)
{
    size_t count = (size_t)o->width * (size_t)o->height * 3;

    j->picture[n] = NEW_N(uint8_t, count);
    sample_bytes(pixels, j->picture[n], count);
    return write_picture(j, n, o, e);
}

/* Pictures first .. first + n - 1, as many as the batch takes. */
static int make_pictures(job *j, int first, int n, const sample_opts *o, float *pixels, err *e)
{
    sample_ask *asks = NEW_N(sample_ask, n);

    for (int i = 0; i < n; i++)
        asks[i] = (sample_ask){j->prompt[(first + i) / j->set.count], j->set.negative, (uint32_t)((first + i) % j->set.count)};
    int rc = j->batch ? sample_batch_run(j->batch, j->words, asks, n, pixels, e)
                      : sample_picture(j->model, j->words, o, asks->prompt, asks->negative, asks->index, pixels, e);
    if (rc != 0)
        err_wrap(e, "%s", asks->prompt);
    for (int i = 0; i < n && rc == 0; i++)
        rc = keep_picture(j, first + i, o, pixels + (size_t)i * (size_t)o->width * (size_t)o->height * 3, e);
    free(asks);
    return rc;
}

/* How many at once: as asked for, where that can be. */
static int open_batch(job *j, const sample_opts *o, int n, int *at_once, err *e)
{
    const char *no = sample_batch_declines(j->model, o);

    if (j->set.batch == CFG_WORD)
        return sample_batch_some(&j->batch, j->model, o, n, at_once, e);
    *at_once = no ? 1 : j->set.batch < n ? j->set.batch : n;
    if (no && j->set.batch > 1)
        return err_set(e, ERR_INPUT, "batch: %s", no);
    return no ? 0 : sample_batch_open(&j->batch, j->model, o, *at_once, e);
}

static int write_index(const job *j, err *e)
{
    json_t *o = json_object();
    char path[FS_PATH], name[32];
    int rc = fs_join(path, j->set.out, "prompts.json", e);

    for (int n = 0; n < j->prompts * j->set.count; n++) {
        snprintf(name, sizeof name, "%05d", n);
        if (json_object_set_new(o, name, json_string(j->prompt[n / j->set.count])) != 0 && rc == 0)
            rc = err_set(e, ERR_INPUT, "prompt %d is not UTF-8", n / j->set.count + 1);
    }
    char *text = json_dumps(o, JSON_INDENT(1));
    if (rc == 0)
        rc = fs_write(path, text, strlen(text), e);
    free(text);
    json_decref(o);
    return rc;
}

static int write_grid(const job *j, const sample_opts *o, err *e)
{
    char path[FS_PATH];
    int n = j->prompts * j->set.count, across = j->set.count;

    if (across == 1) /* one of each: as square as it goes */
        while (across * across < n)
            across++;
    TRY(fs_join(path, j->set.out, "grid.png", e));
    return image_write_grid(path, (const uint8_t *const *)j->picture, n, across, o->height, o->width, e);
}

static int make_all(job *j, err *e)
{
    sample_opts o = opts_of(j);
    int n = j->prompts * j->set.count, at_once;
    double start = clock_s();

    TRY(sample_check(j->model, &o, e));
    TRY(fs_mkdirs(j->set.out, e));
    for (int i = 0; i < j->prompts; i++)
        warn_of_words(j, j->prompt[i]);
    TRY(write_index(j, e));
    j->picture = NEW_N(uint8_t *, n);
    TRY(open_batch(j, &o, n, &at_once, e));
    TRY(mem_big((void **)&j->pixels, (size_t)at_once * (size_t)o.width * (size_t)o.height * 3 * sizeof(float), "pictures", e));
    for (int i = 0; i < n; i += at_once) {
        int some = n - i < at_once ? n - i : at_once;
        TRY(make_pictures(j, i, some, &o, j->pixels, e));
        log_progress(j->log, "%d of %d pictures, %.1f s each", i + some, n, (clock_s() - start) / (i + some));
    }
    if (j->set.grid)
        TRY(write_grid(j, &o, e));
    log_event(j->log, "pictures", INT("count", n), TEXT("out", j->set.out), REAL("seconds", clock_s() - start));
    return 0;
}

/* ---- settings ---- */

static int run(job *j, err *e)
{
    TRY(log_open(&j->log, stderr, NULL, e));
    TRY(read_prompts(j, e));
    TRY(open_model(j, e));
    return make_all(j, e);
}

static int read_settings(settings *s, cfg_doc *d, int argc, char **argv, err *e)
{
    cfg_section section = {"sample", ROWS, s};
    cfg_node *flags;

    TRY(cfg_args(&flags, d, &section, 1, &argc, argv, e));
    TRY(cfg_args_done(&section, 1, argc, argv, e));
    if (argc > 1)
        return err_set(e, ERR_INPUT, "%s is not a flag; a prompt is given by --prompt", argv[1]);
    TRY(cfg_fill(NULL, d, &section, 1, flags, e));
    if (!s->model[0] && s->from.n == 0)
        return err_set(e, ERR_INPUT, "no model; give --model DIR or --from FILE.h5");
    if (s->prompt.n == 0 && !s->prompts[0])
        return err_set(e, ERR_INPUT, "no prompt; give --prompt \"a photo of a cat\" or --prompts FILE");
    return 0;
}

static int help(void)
{
    cfg_section section = {"sample", ROWS, NULL};
    const sampler_kind *k;

    printf("usage: cfarm sample (--model DIR | --from FILE.h5) --prompt TEXT [flags]\n\n");
    cfg_help(stdout, &section, 1);
    printf("\nsamplers:\n");
    for (size_t i = 0; (k = sampler_kind_at(i)) != NULL; i++)
        printf("  %-28s %s\n", k->name, k->help);
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    cfg_doc *d = cfg_doc_new();
    err e = {0};
    job j = {0};

    for (size_t i = 0; i < SAMPLERS_MOST && sampler_kind_at(i); i++)
        samplers[i] = sampler_kind_at(i)->name;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        cfg_doc_free(d);
        return help();
    }
    bool understood = read_settings(&j.set, d, argc, argv, &e) == 0;
    bool done = understood && run(&j, &e) == 0;
    if (!done)
        fprintf(stderr, "cfarm-sample: %s\n", e.text);
    close_job(&j);
    cfg_doc_free(d);
    return done ? 0 : understood ? 1 : 2;
}
