/* cfarm reg: collections of captioned pictures that regularisation is chosen from, and what generated class pictures
 * lie where. index makes or renews an index, find asks one, show tells what is in an index or in a folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/log.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg.h"
#include "data/image.h"
#include "data/reg_gather.h"
#include "data/regset.h"
#include "trainer/eval/caption_vectors.h"
#include "trainer/eval/eval_command.h"

typedef struct {
    const char *model, *out, *caption;
    double similarity;
    int count;
    bool check;
} settings;

static const cfg_field ROWS[] = {
    {"model", CFG_TEXT, CFG_AT(settings, model), "",
     .help = "index, find: the base model, whose text encoder compares captions"},
    {"out", CFG_TEXT, CFG_AT(settings, out), "",
     .help = "index: the file; -o FILE is the same. What is there already is renewed: "
             "captions it knows are not encoded again"},
    {"caption", CFG_TEXT, CFG_AT(settings, caption), "",
     .help = "find: what the captions shall be like, \"photo of a dog\""},
    {"similarity", CFG_REAL, CFG_AT(settings, similarity), "0.85", -1, 1, .help = "find: the least cosine"},
    {"count", CFG_INT, CFG_AT(settings, count), "200", 1, 1000000, .unit = "pictures",
     .help = "find: how many are wanted"},
    {"check", CFG_BOOL, CFG_AT(settings, check), "false",
     .help = "show: read all vectors of an index against their checksums"},
    CFG_END,
};

/* ---- a text encoder ---- */

typedef struct {
    nn_backend *backend;
    sd *model;
    tokenizer *words;
    caption_vectors *by;
} encoder;

static int encoder_open(encoder *c, const char *dir, err *e)
{
    char path[FS_PATH];

    TRY(nn_cpu_open(&c->backend, 0, false, e));
    TRY(sd_open(&c->model, dir, c->backend, e));
    TRY(sd_path(path, dir, "tokenizer", e));
    TRY(tokenizer_open(&c->words, path, e));
    return caption_vectors_open(&c->by, c->model, c->words, e);
}

static void encoder_close(encoder *c)
{
    caption_vectors_close(c->by);
    tokenizer_close(c->words);
    sd_close(c->model);
    if (c->backend)
        c->backend->close(c->backend);
}

static int encode_one(encoder *c, const char *caption, float *out, err *e)
{
    return caption_vectors_run(c->by, &caption, 1, out, e);
}

/* ---- where a caption's vector comes from: the index that is there, an entry before it, or the encoder ---- */

typedef struct { const char *caption; int64_t old, mine; } known; /* old, mine: a row, or -1 */
typedef struct { known *at; size_t room; } known_table;

static known *find_place(const known_table *t, const char *caption)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (const char *p = caption; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    size_t i = (size_t)(h ^ h >> 32) & (t->room - 1);
    while (t->at[i].caption && strcmp(t->at[i].caption, caption) != 0)
        i = (i + 1) & (t->room - 1);
    return &t->at[i];
}

static known_table table_for(size_t entries)
{
    known_table t = {.room = 64};

    while (t.room < 2 * entries)
        t.room *= 2;
    t.at = NEW_N(known, t.room);
    return t;
}

typedef struct {
    encoder by;
    reg_gathered from;
    reg_index *old;        /* NULL: none that can be used */
    reg_writer *to;
    known_table table;
    float *row;            /* room for one vector */
    const char *wait[CAPTION_BATCH];
    int waiting;           /* captions to encode, whose rows are the next ones */
    size_t encoded, kept, again;
    logger *log;
} indexing;

static int encode_waiting(indexing *x, err *e)
{
    int width = caption_vectors_width(x->by.by), n = x->waiting;
    float *rows = NEW_N(float, CAPTION_BATCH * width);
    int rc = n > 0 ? caption_vectors_run(x->by.by, x->wait, n, rows, e) : 0;

    if (rc == 0 && n > 0)
        rc = reg_writer_add(x->to, rows, n, false, e);
    x->waiting = 0;
    x->encoded += (size_t)n;
    free(rows);
    return rc;
}

/* Rows go in in order, so whoever has a vector already waits for those who are being encoded. */
static int add_row(indexing *x, const float *row, err *e)
{
    TRY(encode_waiting(x, e));
    return reg_writer_add(x->to, row, 1, true, e);
}

static int add_entry(indexing *x, int64_t i, err *e)
{
    const char *caption = x->from.at[i].caption;
    known *k = find_place(&x->table, caption);

    if (k->caption && k->mine >= 0) {
        TRY(encode_waiting(x, e));
        TRY(reg_writer_read(x->to, k->mine, x->row, e));
        x->again++;
        return reg_writer_add(x->to, x->row, 1, true, e);
    }
    bool is_old = k->caption != NULL;
    if (!is_old)
        *k = (known){caption, -1, -1};
    k->mine = i;
    if (is_old) {
        TRY(reg_index_row(x->old, k->old, x->row, e));
        x->kept++;
        return add_row(x, x->row, e);
    }
    x->wait[x->waiting++] = caption;
    return x->waiting == CAPTION_BATCH ? encode_waiting(x, e) : 0;
}

/* The index that is there helps where the same text encoder made it: its probe is compared. */
static int open_old(indexing *x, const char *path, const float *probe, err *e)
{
    int width = caption_vectors_width(x->by.by);

    if (!fs_exists(path))
        return 0;
    TRY(reg_index_open(&x->old, path, e));
    if (reg_index_dim(x->old) == width && regset_same_probe(reg_index_probe(x->old), probe, width))
        return 0;
    log_event(x->log, "renewed",
              TEXT("text", "the index was made by another text encoder: every caption is encoded again"));
    reg_index_close(x->old);
    x->old = NULL;
    return 0;
}

static void remember_old(indexing *x)
{
    for (int64_t i = 0; x->old && i < reg_index_count(x->old); i++) {
        known *k = find_place(&x->table, reg_index_at(x->old, i).caption);
        if (!k->caption)
            *k = (known){reg_index_at(x->old, i).caption, i, -1};
    }
}

static int index_all(indexing *x, const settings *set, char *const given[], int n, err *e)
{
    double start = clock_s();

    for (int i = 0; i < n; i++)
        TRY(reg_gather(&x->from, given[i], e));
    TRY(encoder_open(&x->by, set->model, e));
    int width = caption_vectors_width(x->by.by);
    x->row = NEW_N(float, 2 * width);
    float *probe = x->row + width;
    TRY(encode_one(&x->by, REG_INDEX_PROBE, probe, e));
    TRY(open_old(x, set->out, probe, e));
    x->table = table_for(x->from.n + (x->old ? (size_t)reg_index_count(x->old) : 0));
    remember_old(x);
    TRY(reg_writer_open(&x->to, set->out, x->from.at, (int64_t)x->from.n, width, probe, e));
    for (size_t i = 0; i < x->from.n; i++) {
        TRY(add_entry(x, (int64_t)i, e));
        log_progress(x->log, "%zu of %zu captions, %zu encoded, %.0f a second", i + 1, x->from.n, x->encoded,
                     (double)x->encoded / (clock_s() - start));
    }
    TRY(encode_waiting(x, e));
    reg_writer *w = x->to;
    x->to = NULL;
    TRY(reg_writer_commit(w, e));
    log_event(x->log, "indexed", INT("captions", (long long)x->from.n), INT("encoded", (long long)x->encoded),
              INT("kept", (long long)x->kept), INT("repeated", (long long)x->again),
              INT("without", (long long)x->from.without), INT("unreadable", (long long)x->from.unreadable),
              INT("missing", (long long)x->from.missing), TEXT("file", set->out), REAL("seconds", clock_s() - start));
    return 0;
}

static int run_index(const settings *set, char *const given[], int n, logger *log, err *e)
{
    indexing x = {.log = log};
    int rc = index_all(&x, set, given, n, e);

    reg_writer_drop(x.to);
    reg_index_close(x.old);
    reg_gathered_free(&x.from);
    encoder_close(&x.by);
    free(x.table.at);
    free(x.row);
    return rc;
}

/* ---- find ---- */

static int embed(void *arg, const char *const captions[], int n, float *out, err *e)
{
    caption_vectors *c = arg;

    for (int at = 0; at < n; at += CAPTION_BATCH) {
        int some = n - at < CAPTION_BATCH ? n - at : CAPTION_BATCH;
        TRY(caption_vectors_run(c, captions + at, some, out + (size_t)at * (size_t)caption_vectors_width(c), e));
    }
    return 0;
}

static int run_find(const settings *set, char *const given[], int n, logger *log, err *e)
{
    encoder by = {0};
    reg_hit *hits = NULL;
    reg_index *x = NULL;
    size_t got = 0, found = 0;

    (void)n, (void)log;
    int rc = encoder_open(&by, set->model, e);
    if (rc == 0) {
        regset_embed with = {caption_vectors_width(by.by), embed, by.by};
        rc = regset_ask(&x, given[0], set->caption, set->similarity, (size_t)set->count, &with, &hits, &got, &found, e);
    }
    for (size_t i = 0; rc == 0 && i < got && i < 10; i++)
        printf("%.4f  %.100s\n", hits[i].near, reg_index_at(x, hits[i].row).caption);
    if (rc == 0 && got > 0)
        printf("%zu of %lld captions are as near as %.3g to \"%s\"; the farthest of %zu is at %.4f\n", found,
               (long long)reg_index_count(x), set->similarity, set->caption, got, hits[got - 1].near);
    if (rc == 0 && got < (size_t)set->count)
        rc = err_set(e, ERR_INPUT,
                     "%s: %zu of %lld captions are as near as %.3g, %d are wanted; lower similarity, set count: %zu, "
                     "add "
                     "pictures, or use generate: %d",
                     given[0], found, (long long)reg_index_count(x), set->similarity, set->count, found, set->count);
    free(hits);
    reg_index_close(x);
    encoder_close(&by);
    return rc;
}

/* ---- show ---- */

static int show_index(const char *path, bool check, err *e)
{
    reg_index *x;
    size_t archives = 0;

    TRY(reg_index_open(&x, path, e));
    for (int64_t i = 0; i < reg_index_count(x); i++)
        archives += reg_index_at(x, i).size > 0;
    printf("%s: %lld captioned pictures, %zu of them in archives, vectors of %d\n", path, (long long)reg_index_count(x),
           archives, reg_index_dim(x));
    int rc = check ? reg_index_check(x, e) : 0;
    reg_index_close(x);
    return rc;
}

/* Pictures made in a folder of generated ones, and what they were made by. */
static int show_made(const char *path, bool top, err *e)
{
    char made[FS_PATH], **names;
    json_t *o = NULL;
    size_t n, pictures = 0;

    TRY(fs_join(made, path, REGSET_MADE, e));
    TRY(fs_list(&names, &n, path, e));
    for (size_t i = 0; i < n; i++)
        pictures += image_named(names[i]);
    fs_list_free(names);
    if (top && pictures == 0)
        return 0;
    if (fs_exists(made))
        TRY(json_read(&o, made, e));
    const char *prompt = json_string_value(json_object_get(o, "prompt"));
    printf("%s: %zu %s%s%s%s\n", path, pictures, o ? "generated" : "pictures", prompt ? " for \"" : "",
           prompt ? prompt : "", prompt ? "\"" : "");
    json_decref(o);
    return 0;
}

static int show_folder(const char *folder, err *e)
{
    char **names, path[FS_PATH];
    size_t n;
    int rc = show_made(folder, true, e);

    if (rc != 0)
        return rc;
    TRY(fs_list(&names, &n, folder, e));
    for (size_t i = 0; i < n && rc == 0; i++)
        if ((rc = fs_join(path, folder, names[i], e)) == 0 && fs_is_dir(path))
            rc = show_made(path, false, e);
    fs_list_free(names);
    return rc;
}

static int run_show(const settings *set, char *const given[], int n, logger *log, err *e)
{
    (void)log;
    for (int i = 0; i < n; i++)
        TRY(fs_is_dir(given[i]) ? show_folder(given[i], e) : show_index(given[i], set->check, e));
    return 0;
}

/* ---- the command ---- */

static const struct {
    const char *name, *args;
    int least, most;
    bool wants_model;
    int (*run)(const settings *set, char *const given[], int n, logger *log, err *e);
} WHAT[] = {
    {"index", "(FOLDER | LIST.tsv | SHARD.tar)... -o FILE --model DIR", 1, 1 << 20, true, run_index},
    {"find", "FILE --caption TEXT --model DIR", 1, 1, true, run_find},
    {"show", "(FILE | FOLDER)...", 1, 1 << 20, false, run_show},
};
enum { WHATS = sizeof WHAT / sizeof *WHAT };

static int tell_flags(void)
{
    cfg_section section = {"reg", ROWS, NULL};

    for (int i = 0; i < WHATS; i++)
        printf("%s cfarm reg %s %s\n", i == 0 ? "usage:" : "      ", WHAT[i].name, WHAT[i].args);
    printf("\n");
    cfg_help(stdout, &section, 1);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int find_what(const char *name, err *e)
{
    const char *names[WHATS + 1] = {0};

    for (int i = 0; i < WHATS; i++) {
        names[i] = WHAT[i].name;
        if (strcmp(name, WHAT[i].name) == 0)
            return i;
    }
    const char *near = str_nearest(name, names);
    err_set(e, ERR_INPUT, "%s is nothing that can be done%s%s; it goes: cfarm reg index, find or show",
            *name ? name : "nothing", near ? "; did you mean " : "", near ? near : "");
    return -1;
}

static int read_settings(settings *set, cfg_doc *d, int what, int *argc, char **argv, err *e)
{
    cfg_section section = {"reg", ROWS, set};
    cfg_node *flags;

    for (int i = 1; i < *argc; i++)
        if (strcmp(argv[i], "-o") == 0)
            argv[i] = cfg_text(d, "--out");
    TRY(cfg_args(&flags, d, &section, 1, argc, argv, e));
    TRY(cfg_args_done(&section, 1, *argc, argv, e));
    TRY(cfg_fill(NULL, d, &section, 1, flags, e));
    if (*argc - 1 < WHAT[what].least || *argc - 1 > WHAT[what].most)
        return err_set(e, ERR_INPUT, "%d given; it goes: cfarm reg %s %s", *argc - 1, WHAT[what].name, WHAT[what].args);
    if (WHAT[what].wants_model && !set->model[0])
        return err_set(e, ERR_INPUT, "no model; give --model DIR, the base model that will train with these pictures");
    if (WHAT[what].run == run_index && !set->out[0])
        return err_set(e, ERR_INPUT, "no file; give -o FILE");
    if (WHAT[what].run == run_find && !set->caption[0])
        return err_set(e, ERR_INPUT, "no caption; give --caption \"photo of a dog\"");
    return 0;
}

static int run(int argc, char **argv, bool *understood, err *e)
{
    int what = find_what(argc > 1 ? argv[1] : "", e);
    cfg_doc *d = cfg_doc_new();
    logger *log = NULL;
    settings set;
    int rc = what < 0 ? ERR_INPUT : 0;

    argc--;
    argv++;
    if (rc == 0)
        rc = read_settings(&set, d, what, &argc, argv, e);
    *understood = rc == 0;
    if (rc == 0)
        rc = log_open(&log, stderr, NULL, e);
    if (rc == 0)
        rc = WHAT[what].run(&set, argv + 1, argc - 1, log, e);
    log_close(log);
    cfg_doc_free(d);
    return rc;
}

const eval_command eval_command_reg = {"reg", "indexes of captioned pictures, and what class pictures there are",
                                       tell_flags, run};
