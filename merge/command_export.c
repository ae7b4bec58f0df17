/* cfarm export FILE.h5 --format NAME -o OUT, and back: cfarm import FILE... --base DIR -o OUT.h5 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/cards.h"
#include "merge/command.h"
#include "merge/export.h"
#include "trainer/method/method.h"

/* ---- export ---- */

typedef struct {
    const char *out, *base;
    int format;
    int64_t rank;
    double error, share;
    bool full;
} export_settings;

static const char *const FORMATS[] = {
    "diffusers", "diffusers-bin", "model",     "single",     "single-diffusers", "lora",            "peft", "svdiff",
    "embeds",    "a1111",         "delta-bin", "delta-ckpt", "compressed-bin",   "compressed-ckpt", NULL};

static const cfg_field EXPORT_ROWS[] = {
    {"out", CFG_TEXT, CFG_AT(export_settings, out), NULL, 1, 4000, .help = "the file or folder to write; also -o"},
    {"format", CFG_CHOICE, CFG_AT(export_settings, format), "diffusers", .names = FORMATS,
     .help = "diffusers: custom-"
             "diffusion weights and token files; diffusers-bin: the same as its load_attn_procs takes it; model: a whole "
             "model folder; "
             "lora: kohya's names, and embedding files; peft: the same in diffusers' names; embeds: textual "
             "inversion's "
             "learned_embeds.safetensors; svdiff: svdiff-pytorch's spectral_shifts; a1111: WORD.pt; single, "
             "single-diffusers: the whole model in one file, in CompVis' or diffusers' keys; delta-bin, delta-ckpt: the "
             "authors'; compressed-bin, compressed-ckpt: the same compressed (--share)"},
    {"base", CFG_TEXT, CFG_AT(export_settings, base), "",
     .help = "the base model's folder; left out: where the file says it "
             "was"},
    {"rank", CFG_INT, CFG_AT(export_settings, rank), "64", 1, 2048, .help = "of a LoRA"},
    {"error", CFG_PERCENT, CFG_AT(export_settings, error), "0%", 0, 1,
     .help = "of a LoRA, instead of a rank: each matrix gets the smallest that leaves out at most this share of its change"},
    {"share", CFG_PERCENT, CFG_AT(export_settings, share), "60%", 0, 1,
     .help = "of the sum of singular values that a compressed delta keeps; the authors' is 60 %"},
    {"full", CFG_BOOL, CFG_AT(export_settings, full), "false", .help = "the same as --format model"},
    CFG_END,
};

static const export_format *format_of(const export_settings *s)
{
    const export_format *f = export_formats;
    while (f->name && strcmp(f->name, s->full ? "model" : FORMATS[s->format]) != 0)
        f++;
    CHECK(f->name);
    return f;
}

/* Every format below is weights of a model, the same for every prompt. */
static int refuse_bank(const concept *c, const export_format *f, err *e)
{
    if (c->bank.n == 0)
        return 0;
    return err_set(e, ERR_INPUT,
                   "a bank of %d concepts changes keys and values by the words of each prompt, which the format %s cannot "
                   "say; merge the few you need without --relax bank, and export those",
                   c->bank.n, f->name);
}

static int export_concept(concept *c, const export_settings *s, logger *log, err *e)
{
    const export_format *f = format_of(s);
    base_model base = {0};
    bool whole = export_needs_base(c) && !(f->as_is && f->as_is(c));
    TRY(refuse_bank(c, f, e));
    int rc = f->needs_base || whole ? base_open(&base, s->base, c->base_path, c->base, e) : 0;
    if (rc == 0 && whole)
        rc = export_full(c, base.model, e);
    if (rc == 0)
        rc = f->write(
            &(export_job){
                .c = c, .base = base.model, .rank = (int)s->rank, .out = s->out, .error = s->error, .share = s->share},
            e);
    if (rc == 0)
        log_event(log, "exported", TEXT("format", f->name), TEXT("out", s->out));
    base_close(&base);
    return rc;
}

static int run_export(const void *set, char *const file[], int n, logger *log, err *e)
{
    concept c;
    int rc;
    (void)n;
    TRY(concept_read(&c, file[0], CONCEPT_TENSORS | CONCEPT_FACTORS | CONCEPT_HISTORY, e));
    rc = export_concept(&c, set, log, e);
    concept_free(&c);
    return rc;
}

const command command_export = {
    "export", "FILE.h5 -o OUT", "for other programs", EXPORT_ROWS, sizeof(export_settings), 1, 1, run_export};

/* ---- import ---- */

typedef struct {
    const char *out, *base;
    cfg_texts class_words;
    cards_cfg cards;
} import_settings;

static const cfg_field IMPORT_ROWS[] = {
    {"out", CFG_TEXT, CFG_AT(import_settings, out), NULL, 1, 4000, .help = "the concept file to write; also -o"},
    {"base", CFG_TEXT, CFG_AT(import_settings, base), NULL, 1, 4000,
     .help = "the folder of the base model it was trained on"},
    {"class", CFG_TEXTS, CFG_AT(import_settings, class_words), "",
     .help = "class word of each token, in their order: cat; "
             "what a merge ties the token to"},
    CARDS_ROWS(import_settings, cards),
    CFG_END,
};

static int check_finite(const concept_tensor *t, err *e)
{
    for (int64_t k = 0; k < t->rows * (t->cols ? t->cols : 1); k++)
        if (!isfinite(t->data[k]))
            return err_set(e, ERR_INPUT, "%s holds numbers that are not finite", t->name);
    return 0;
}

/* Factors and shifts fit the base where whole weights can be made of them. */
static int check_whole(const concept *c, const sd *m, err *e)
{
    const method *by = method_that_keeps(c);
    concept whole = {0};
    for (int i = 0; i < c->n_tensors; i++)
        TRY(check_finite(&c->tensors[i], e));
    int rc = by->whole(&whole, c, m, e);
    concept_free(&whole);
    return rc;
}

/* A convolution is kept as rows of all that makes one output. */
static int64_t cols_of(nn_shape s)
{
    int64_t cols = s.n > 1;
    for (int i = 1; i < s.n; i++)
        cols *= s.d[i];
    return cols;
}

static int check_tensors(const concept *c, const sd *m, err *e)
{
    char name[600];
    if (method_that_keeps(c) && method_that_keeps(c)->whole)
        return check_whole(c, m, e);
    for (int i = 0; i < c->n_tensors; i++) {
        const concept_tensor *t = &c->tensors[i];
        nn_shape s;
        snprintf(name, sizeof name, "%s%.500s", str_starts(t->name, "text_encoder.") ? "" : "unet.", t->name);
        TRY(sd_file_shape(m, name, &s, e));
        if (s.d[0] != t->rows || cols_of(s) != t->cols)
            return err_set(e, ERR_SHAPE, "%s has another shape in the base model", t->name);
        TRY(check_finite(t, e));
    }
    return 0;
}

static int give_classes(concept *c, const cfg_texts *words, err *e)
{
    if (words->n != 0 && words->n != (size_t)(c->n_tokens ? c->n_tokens : 1))
        return err_set(e, ERR_INPUT, "%zu class words for %d tokens; give one for each, in this order: --class cat",
                       words->n, c->n_tokens);
    for (int i = 0; words->n > 0 && i < c->n_tokens; i++) {
        free(c->tokens[i].class_word);
        c->tokens[i].class_word = mem_text(words->at[i]);
    }
    return 0;
}

static void tell_lines(logger *log, const char *event, const str *lines)
{
    for (const char *at = lines->n ? lines->at : ""; *at; at += strcspn(at, "\n") + 1) {
        str key = {0};
        str_add(&key, "%.*s", (int)strcspn(at, "\n"), at);
        log_event(log, event, TEXT("key", key.at));
        str_free(&key);
    }
}

/* Nothing of a file is dropped without a word. */
static int read_all(concept *c, sd *m, char *const file[], int n, logger *log, err *e)
{
    import_notes notes = {{0}, {0}};
    int rc = 0;
    for (int i = 0; rc == 0 && i < n; i++)
        rc = import_read(c, file[i], sd_unet_shape(m)->level[0].layers, m, &notes, e);
    tell_lines(log, "passed over", &notes.passed);
    tell_lines(log, "unknown", &notes.unknown);
    import_notes_free(&notes);
    return rc;
}

static int fill(concept *c, sd *m, const import_settings *s, char *const file[], int n, logger *log, err *e)
{
    char base[HASH_HEX];
    TRY(cards_check(&s->cards, e));
    TRY(read_all(c, m, file, n, log, e));
    if (c->n_tensors + c->n_tokens == 0)
        return err_set(e, ERR_INPUT, "%s holds neither weights nor tokens", file[0]);
    if (c->width == 0)
        c->width = sd_text_shape(m)->width;
    if (c->width != sd_text_shape(m)->width)
        return err_set(e, ERR_SHAPE, "text features of %d numbers, the base model's have %d", c->width,
                       sd_text_shape(m)->width);
    TRY(check_tensors(c, m, e));
    TRY(give_classes(c, &s->class_words, e));
    TRY(sd_fingerprint(m, base, e));
    c->base = mem_text(base);
    c->base_path = mem_text(sd_dir(m));
    const method *by = method_that_keeps(c);
    if (!by)
        return err_set(e, ERR_INPUT, "%s: no method leaves such tensors behind", file[0]);
    c->method = mem_text(by->name);
    c->recipe = mem_text("{\"operation\":\"import\",\"program\":\"conceptfarm " CFARM_VERSION "\"}");
    return cards_make(c, m, &s->cards, s->class_words.n ? s->class_words.at[0] : NULL, e);
}

static int run_import(const void *set, char *const file[], int n, logger *log, err *e)
{
    const import_settings *s = set;
    concept c = {0};
    base_model base;
    int rc;
    TRY(base_open(&base, s->base, NULL, NULL, e));
    rc = fill(&c, base.model, s, file, n, log, e);
    if (rc == 0)
        rc = concept_write(s->out, &c, e);
    if (rc == 0)
        log_event(log, "imported", INT("tensors", c.n_tensors), INT("tokens", c.n_tokens), INT("card_rows", c.card.n),
                  TEXT("out", s->out));
    concept_free(&c);
    base_close(&base);
    return rc;
}

const command command_import = {"import",
                                "FILE... --base DIR -o OUT.h5",
                                "other programs' concepts into a concept file",
                                IMPORT_ROWS,
                                sizeof(import_settings),
                                1,
                                -1,
                                run_import};
