/* Laying a concept over its base; see apply.h. */
#include "trainer/apply.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/method/method.h"

static int check_base(const sd *m, const concept *c, err *e)
{
    char hex[HASH_HEX];

    TRY(sd_fingerprint(m, hex, e));
    if (strcmp(hex, c->base) != 0)
        return err_set(e, ERR_INPUT, "it was made from another base model (%.12s) than %s (%.12s)", c->base, sd_dir(m), hex);
    if (c->width != sd_text_shape(m)->width)
        return err_set(e, ERR_SHAPE, "its words are %d wide where the text encoder has %d", c->width,
                       sd_text_shape(m)->width);
    return 0;
}

/* Rows are found by ids, so the words must get the ids right behind the vocabulary. */
static int add_words(sd *m, tokenizer *t, const concept *c, err *e)
{
    size_t width = (size_t)c->width;
    float *rows = NEW_N(float, (size_t)c->n_tokens * width + 1);
    int rc = 0;

    for (int i = 0; rc == 0 && i < c->n_tokens; i++) {
        int32_t id, wanted = sd_text_shape(m)->vocab + i;

        rc = tokenizer_add(t, c->tokens[i].word, &id, e);
        if (rc == 0 && id != wanted)
            rc = err_set(e, ERR_INPUT, "%s gets id %d in the tokenizer and %d in the text encoder", c->tokens[i].word,
                         (int)id, (int)wanted);
        memcpy(rows + (size_t)i * width, c->tokens[i].row, width * sizeof *rows);
    }
    if (rc == 0)
        rc = sd_text_rows_set(m, rows, c->n_tokens, e);
    free(rows);
    return rc;
}

/* W as the file has it: a tensor, or the base's plus its factors. */
static int weight_of(const sd *m, const concept *c, const char *name, const char *full, nn_shape s, float *w, err *e)
{
    size_t count = (size_t)nn_count(s);
    float *w0 = NEW_N(float, count);
    bool changed;
    int rc = sd_file_read(m, full, w0, count, e);

    if (rc == 0)
        rc = concept_weight(c, name, w0, s.d[0], (int64_t)count / s.d[0], w, &changed, e);
    free(w0);
    return rc;
}

static int override(sd *m, const concept *c, const char *name, err *e)
{
    const concept_tensor *whole = concept_find(c, name);
    str full = {0};
    nn_shape s;

    method_param(&full, name);
    int rc = sd_file_shape(m, full.at, &s, e);
    if (rc == 0 && whole)
        rc = sd_override(m, full.at, whole->data, (size_t)(whole->rows * (whole->cols ? whole->cols : 1)), e);
    else if (rc == 0) {
        float *w = NEW_N(float, nn_count(s));
        rc = weight_of(m, c, name, full.at, s, w, e);
        if (rc == 0)
            rc = sd_override(m, full.at, w, (size_t)nn_count(s), e);
        free(w);
    }
    str_free(&full);
    return rc;
}

static int override_all(sd *m, const concept *c, err *e)
{
    for (int i = 0; i < c->n_tensors; i++)
        TRY(override(m, c, c->tensors[i].name, e));
    for (int i = 0; i < c->factors.matrices; i++)
        if (!concept_find(c, c->factors.matrix[i].name))
            TRY(override(m, c, c->factors.matrix[i].name, e));
    return 0;
}

static int apply(sd *m, tokenizer *t, const concept *c, err *e)
{
    const method *by = method_find(c->method);
    concept whole = {0};

    TRY(check_base(m, c, e));
    TRY(add_words(m, t, c, e));
    if (c->bank.n > 0) /* the base's matrices stay: bank_open does the rest, once the prompts are known */
        return 0;
    if (!by || !by->whole)
        return override_all(m, c, e);
    int rc = by->whole(&whole, c, m, e);
    if (rc == 0)
        rc = override_all(m, &whole, e);
    concept_free(&whole);
    return rc;
}

int apply_concept(sd *m, tokenizer *t, const concept *c, err *e)
{
    sd_restore(m);
    int rc = apply(m, t, c, e);
    if (rc != 0)
        sd_restore(m);
    return rc;
}
