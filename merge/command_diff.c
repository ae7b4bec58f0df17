/* cfarm diff A.h5 B.h5: what two concept or merged files have in common and what not. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/concept.h"
#include "merge/command.h"

typedef struct {
    double within;
    const char *base;
} settings;

static const cfg_field ROWS[] = {
    {"within", CFG_REAL, CFG_AT(settings, within), "0", 0, 1e9,
     .help = "numbers that differ by no more than this share of the change from the base, or without --base of themselves, are the same"},
    {"base", CFG_TEXT, CFG_AT(settings, base), "",
     .help = "the base model's folder: differences are told as a share of what the first file changes in it"},
    CFG_END,
};

typedef struct {
    const settings *set;
    const concept *a, *b;
    base_model base;
    int differ;
} job;

/* ---- numbers ---- */

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (b ? (double)b[i] : 0);
        sum += d * d;
    }
    return sqrt(sum);
}

static void note(job *j, const char *what, const char *name, double share)
{
    if (!(share <= j->set->within)) {
        printf("  %-10s %-72s differs by %.3g\n", what, name, share);
        j->differ++;
    }
}

static void note_text(job *j, const char *what, const char *a, const char *b)
{
    if (strcmp(a ? a : "", b ? b : "") == 0)
        return;
    printf("  %-10s %s | %s\n", what, a && a[0] ? a : "-", b && b[0] ? b : "-");
    j->differ++;
}

/* |a| of what is compared: of the change where the base is known. */
static int unit_of(const job *j, const concept_tensor *t, size_t n, double *unit, err *e)
{
    char full[600];
    float *w0;
    int rc;
    *unit = distance(t->data, NULL, n);
    if (!j->base.model)
        return 0;
    w0 = NEW_N(float, n);
    snprintf(full, sizeof full, "%s%.500s", strncmp(t->name, "text_encoder.", 13) == 0 ? "" : "unet.", t->name);
    rc = sd_file_read(j->base.model, full, w0, n, e);
    if (rc == 0)
        *unit = distance(t->data, w0, n);
    free(w0);
    return rc;
}

static int compare_tensor(job *j, const concept_tensor *t, int *different, err *e)
{
    const concept_tensor *other = concept_find(j->b, t->name);
    size_t n = (size_t)t->rows * (size_t)(t->cols ? t->cols : 1);
    double unit, far;
    int before = j->differ;
    if (!other || other->rows != t->rows || other->cols != t->cols) {
        printf("  %-10s %-72s %s\n", "tensor", t->name, other ? "has another shape" : "is only in the first");
        j->differ++;
        ++*different;
        return 0;
    }
    TRY(unit_of(j, t, n, &unit, e));
    far = distance(t->data, other->data, n);
    note(j, "tensor", t->name, far == 0 ? 0 : far / (unit > 0 ? unit : 1));
    *different += j->differ > before;
    return 0;
}

static int compare_tensors(job *j, int *different, err *e)
{
    for (int i = 0; i < j->a->n_tensors; i++)
        TRY(compare_tensor(j, &j->a->tensors[i], different, e));
    for (int i = 0; i < j->b->n_tensors; i++)
        if (!concept_find(j->a, j->b->tensors[i].name)) {
            printf("  %-10s %-72s is only in the second\n", "tensor", j->b->tensors[i].name);
            j->differ++;
            ++*different;
        }
    return 0;
}

/* ---- words ---- */

static const concept_token *token_of(const concept *c, const char *word)
{
    for (int i = 0; i < c->n_tokens; i++)
        if (strcmp(c->tokens[i].word, word) == 0)
            return &c->tokens[i];
    return NULL;
}

static void only_in(job *j, const concept *c, const concept *other, const char *which)
{
    for (int i = 0; i < c->n_tokens; i++)
        if (!token_of(other, c->tokens[i].word)) {
            printf("  %-10s %-72s is only in the %s\n", "token", c->tokens[i].word, which);
            j->differ++;
        }
}

static void compare_tokens(job *j)
{
    size_t n = (size_t)j->a->width;
    for (int i = 0; i < j->a->n_tokens; i++) {
        const concept_token *t = &j->a->tokens[i], *other = token_of(j->b, t->word);
        double far = other && j->a->width == j->b->width ? distance(t->row, other->row, n) : 0;
        if (!other)
            continue;
        note(j, "token", t->word, far == 0 ? 0 : far / distance(t->row, NULL, n));
        note_text(j, "class", t->class_word, other->class_word);
    }
    only_in(j, j->a, j->b, "first");
    only_in(j, j->b, j->a, "second");
}

/* ---- the rest, which is small ---- */

static void compare_head(job *j)
{
    note_text(j, "method", j->a->method, j->b->method);
    note_text(j, "base", j->a->base, j->b->base);
    note_text(j, "recipe", j->a->recipe, j->b->recipe);
    note_text(j, "settings", j->a->settings, j->b->settings);
    note_text(j, "verdict", j->a->certificate, j->b->certificate);
    if (j->a->kind != j->b->kind || j->a->width != j->b->width || j->a->factors.rank != j->b->factors.rank ||
        j->a->bank.n != j->b->bank.n || j->a->card.n != j->b->card.n) {
        printf("  %-10s width %d, factors %d, bank %d, card %d | width %d, factors %d, bank %d, card %d\n", "parts", j->a->width,
               j->a->factors.rank, j->a->bank.n, j->a->card.n, j->b->width, j->b->factors.rank, j->b->bank.n, j->b->card.n);
        j->differ++;
    }
}

static int compare(job *j, err *e)
{
    int different = 0;
    if (strcmp(j->a->digest, j->b->digest) == 0) {
        printf("the same contents, to the last bit\n");
        return 0;
    }
    if (j->set->base[0])
        TRY(base_open(&j->base, j->set->base, NULL, j->a->base, e));
    compare_head(j);
    compare_tokens(j);
    TRY(compare_tensors(j, &different, e));
    printf("%d of %d tensors differ%s\n", different, j->a->n_tensors, j->differ ? "" : "; the same within the bound");
    return 0;
}

static int run(const void *set, char *const file[], int n, logger *log, err *e)
{
    concept a, b;
    job j = {.set = set, .a = &a, .b = &b};
    int rc;
    (void)n;
    (void)log;
    TRY(concept_read(&a, file[0], CONCEPT_ALL, e));
    rc = concept_read(&b, file[1], CONCEPT_ALL, e);
    if (rc == 0) {
        rc = compare(&j, e);
        base_close(&j.base);
        concept_free(&b);
    }
    concept_free(&a);
    if (rc == 0 && fflush(stdout) != 0)
        rc = err_set(e, ERR_IO, "the standard output cannot be written");
    if (rc == 0 && j.differ > 0)
        rc = err_set(e, ERR_INPUT, "%s and %s differ", file[0], file[1]);
    return rc;
}

const command command_diff = {"diff", "A.h5 B.h5", "what differs between two concept or merged files; exit status 1 where anything does",
                              ROWS,   sizeof(settings), 2, 2, run};
