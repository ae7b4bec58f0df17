/* cfarm inspect FILE: what is in a concept file or a merged file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/concept.h"
#include "merge/certificate.h"
#include "merge/command.h"

typedef struct {
    bool json;
} settings;

static const cfg_field ROWS[] = {
    {"json", CFG_BOOL, CFG_AT(settings, json), "false", .help = "as JSON"},
    CFG_END,
};

static double norm(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static size_t count(const concept_tensor *t)
{
    return (size_t)t->rows * (size_t)(t->cols ? t->cols : 1);
}

/* ---- as JSON: everything that the table is made from ---- */

static json_t *json_tokens(const concept *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_tokens; i++) {
        const concept_token *t = &c->tokens[i];
        json_array_append_new(list,
                              json_pack("{s:s s:s s:i s:f}", "word", t->word, "class", t->class_word, "initial_id",
                                        (int)t->initial_id, "norm", norm(t->row, (size_t)c->width)));
    }
    return list;
}

static json_t *json_tensors(const concept *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_tensors; i++) {
        const concept_tensor *t = &c->tensors[i];
        json_t *shape = t->cols ? json_pack("[I,I]", (json_int_t)t->rows, (json_int_t)t->cols)
                                : json_pack("[I]", (json_int_t)t->rows);
        json_array_append_new(
            list, json_pack("{s:s s:o s:f}", "name", t->name, "shape", shape, "norm", norm(t->data, count(t))));
    }
    return list;
}

static json_t *json_card(const concept_card *c)
{
    json_t *rows = json_array();
    for (int i = 0; i < c->n; i++)
        json_array_append_new(rows,
                              json_pack("{s:s s:s s:f s:f}", "at", c->row[i].label, "key", c->row[i].key, "says",
                                        c->row[i].wanted, "moved_by", norm(c->image + i * c->outs, (size_t)c->outs)));
    return rows;
}

static json_t *json_history(const concept_history *h)
{
    return json_pack("{s:i s:f s:f}", "steps", h->n, "first_loss", (double)h->loss[0], "last_loss",
                     (double)h->loss[h->n - 1]);
}

static json_t *json_sources(const concept *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_sources; i++)
        json_array_append_new(list, json_pack("{s:s s:s s:s}", "name", c->sources[i].name, "sha256",
                                              c->sources[i].sha256, "words", c->sources[i].words));
    return list;
}

/* Text that may itself be JSON: as a tree where it is, as text where not. */
static json_t *json_or_text(const char *text)
{
    json_t *tree = json_loads(text, 0, NULL);
    return tree ? tree : json_string(text);
}

static json_t *describe(const concept *c)
{
    json_t *o = json_pack("{s:s s:s s:s s:s s:I s:i s:s s:o s:o s:o s:o}", "kind",
                          c->kind == CONCEPT_MERGED ? "merged" : "concept", "method", c->method, "base", c->base,
                          "base_path", c->base_path, "seed", (json_int_t)c->seed, "width", c->width, "sha256",
                          c->digest, "recipe", json_or_text(c->recipe), "settings", json_or_text(c->settings), "tokens",
                          json_tokens(c), "tensors", json_tensors(c));
    CHECK(o);
    if (c->card.n > 0)
        json_object_set_new(o, "card", json_card(&c->card));
    if (c->history.n > 0)
        json_object_set_new(o, "history", json_history(&c->history));
    if (c->factors.rank > 0)
        json_object_set_new(o, "rank", json_integer(c->factors.rank));
    if (c->bank.n > 0)
        json_object_set_new(o, "bank", json_integer(c->bank.n));
    if (c->n_samples > 0)
        json_object_set_new(o, "samples", json_integer(c->n_samples));
    if (c->n_sources > 0)
        json_object_set_new(o, "sources", json_sources(c));
    if (c->certificate)
        json_object_set_new(o, "certificate", json_or_text(c->certificate));
    return o;
}

/* ---- as a table ---- */

static void show_head(const concept *c)
{
    printf("%s, %s, text width %d\n", c->kind == CONCEPT_MERGED ? "merged model" : "concept", c->method, c->width);
    printf("  %-14s %s\n", "contents", c->digest);
    printf("  %-14s %.16s%s%s\n", "base model", c->base, c->base_path[0] ? ", once at " : "", c->base_path);
    if (c->kind == CONCEPT_SINGLE)
        printf("  %-14s %llu\n", "seed", (unsigned long long)c->seed);
    if (c->recipe[0])
        printf("  %-14s %s\n", "recipe", c->recipe);
}

static void show_tokens(const concept *c)
{
    for (int i = 0; i < c->n_tokens; i++) {
        const concept_token *t = &c->tokens[i];
        printf("  %-14s %s %s (began as id %d, norm %.4g)\n", "token", t->word, t->class_word, (int)t->initial_id,
               norm(t->row, (size_t)c->width));
    }
}

static void show_tensors(const concept *c)
{
    size_t total = 0;
    for (int i = 0; i < c->n_tensors; i++)
        total += count(&c->tensors[i]);
    printf("  %-14s %d, %zu numbers\n", "tensors", c->n_tensors, total);
    for (int i = 0; i < c->n_tensors; i++) {
        const concept_tensor *t = &c->tensors[i];
        char shape[48];
        snprintf(shape, sizeof shape, t->cols ? "[%lld,%lld]" : "[%lld]", (long long)t->rows, (long long)t->cols);
        printf("    %-72s %-12s norm %.5g\n", t->name, shape, norm(t->data, count(t)));
    }
}

static void show_card(const concept_card *c)
{
    if (c->n == 0)
        return;
    printf("  %-14s %d target rows on %d matrices\n", "merge card", c->n, c->matrices);
    for (int i = 0; i < c->n; i++)
        printf("    %-72s moved by %.3g %%\n", c->row[i].label,
               100 * norm(c->image + i * c->outs, (size_t)c->outs) / c->row[i].wanted);
}

static int show_certificate(const char *text, err *e)
{
    json_t *o;
    TRY(json_parse(&o, text, strlen(text), "certificate", e));
    printf("  %-14s ", "certificate");
    certificate_show(stdout, o);
    json_decref(o);
    return 0;
}

static int show(const concept *c, err *e)
{
    show_head(c);
    show_tokens(c);
    if (c->history.n > 0)
        printf("  %-14s %d steps, loss %.4g to %.4g\n", "history", c->history.n, (double)c->history.loss[0],
               (double)c->history.loss[c->history.n - 1]);
    if (c->n_samples > 0)
        printf("  %-14s %d\n", "samples", c->n_samples);
    if (c->n_tensors > 0)
        show_tensors(c);
    show_card(&c->card);
    if (c->factors.rank > 0)
        printf("  %-14s rank %d on %d matrices\n", "factors", c->factors.rank, c->factors.matrices);
    if (c->bank.n > 0)
        printf("  %-14s %d concepts beside the base, on %d matrices\n", "bank", c->bank.n, c->bank.matrices);
    for (int i = 0; i < c->n_sources; i++)
        printf("  %-14s %s (%s), contents %.16s\n", "made of", c->sources[i].name, c->sources[i].words,
               c->sources[i].sha256);
    return c->certificate ? show_certificate(c->certificate, e) : 0;
}

static int run(const void *set, char *const file[], int n, logger *log, err *e)
{
    concept c;
    int rc = 0;
    (void)n;
    (void)log;
    TRY(concept_read(&c, file[0], CONCEPT_ALL, e));
    if (((const settings *)set)->json) {
        json_t *o = describe(&c);
        json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(o);
    } else {
        rc = show(&c, e);
    }
    concept_free(&c);
    if (rc == 0 && fflush(stdout) != 0)
        rc = err_set(e, ERR_IO, "the standard output cannot be written");
    return rc;
}

const command command_inspect = {"inspect",
                                 "FILE.h5",
                                 "what is in a concept file or a merged file; all of it is read and "
                                 "checked against its sha256",
                                 ROWS,
                                 sizeof(settings),
                                 1,
                                 1,
                                 run};
