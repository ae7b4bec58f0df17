/* Concepts beside an unchanged base; see bank.h. */
#include "trainer/bank.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"

struct bank {
    const concept *c;
    int32_t vocab; /* id of the first word */
    int width, beside;
    int *at; /* [shares] where a share's numbers begin; -1: not loaded */
};

/* The share that the word with this id belongs to; -1: no word of a loaded one. */
static int share_of(const bank *b, int32_t id)
{
    int word = id - b->vocab;

    for (int i = 0; word >= 0 && i < b->c->bank.n; i++)
        if (word >= b->c->bank.share[i].first && word < b->c->bank.share[i].first + b->c->bank.share[i].words)
            return b->at[i] >= 0 ? i : -1;
    return -1;
}

void bank_wanted(bool wanted[], const concept *c, const tokenizer *t, const char *prompt)
{
    int32_t ids[TOKENS];
    int32_t vocab = tokenizer_vocab(t);

    tokenizer_encode(t, prompt, ids);
    for (int p = 0; p < TOKENS; p++)
        for (int i = 0; ids[p] >= vocab && i < c->bank.n; i++) {
            int word = ids[p] - vocab - c->bank.share[i].first;
            wanted[i] |= word >= 0 && word < c->bank.share[i].words;
        }
}

/* ---- opening ---- */

/* One matrix's columns for all loaded shares: [rows, beside]. */
static void gather(float *to, const bank *b, int64_t first, int64_t rows)
{
    const concept_bank *k = &b->c->bank;

    for (int i = 0; i < k->n; i++)
        for (int r = 0; b->at[i] >= 0 && r < k->share[i].rank; r++)
            for (int64_t o = 0; o < rows; o++)
                to[o * b->beside + b->at[i] + r] = k->share[i].left[r * k->outs + first + o];
}

static int set_matrix(const bank *b, sd *m, const concept_matrix *x, int64_t first, err *e)
{
    float *columns = NEW_N(float, x->rows *b->beside);
    str name = {0};

    str_add(&name, "unet.%.*s.beside", (int)(strlen(x->name) - strlen(".weight")), x->name);
    gather(columns, b, first, x->rows);
    int rc = nn_params_set(sd_params(m), name.at, NN_SHAPE(x->rows, b->beside), columns, e);
    str_free(&name);
    free(columns);
    return rc;
}

static int check_matrices(const sd *m, const concept_bank *k, err *e)
{
    int n = 0;

    while (sd_kv_name(m, (size_t)n))
        n++;
    if (n != k->matrices)
        return err_set(e, ERR_SHAPE, "the bank speaks of %d matrices and the base model has %d", k->matrices, n);
    for (int i = 0; i < n; i++) {
        const char *name = sd_kv_name(m, (size_t)i);
        nn_shape s;

        TRY(sd_file_shape(m, name, &s, e));
        if (strcmp(name + strlen("unet."), k->matrix[i].name) != 0 || s.d[0] != k->matrix[i].rows || s.d[1] != k->width)
            return err_set(e, ERR_SHAPE, "the bank's %s is not the base model's", k->matrix[i].name);
    }
    return 0;
}

static int set_all(const bank *b, sd *m, err *e)
{
    const concept_bank *k = &b->c->bank;
    int64_t first = 0;

    TRY(check_matrices(m, k, e));
    for (int i = 0; i < k->matrices; first += k->matrix[i++].rows)
        TRY(set_matrix(b, m, &k->matrix[i], first, e));
    return 0;
}

int bank_open(bank **out, sd *m, const concept *c, err *e)
{
    bank *b = NEW(bank);
    int rc = 0;

    *b = (bank){.c = c, .vocab = sd_text_shape(m)->vocab, .width = c->width, .at = NEW_N(int, c->bank.n)};
    for (int i = 0; i < c->bank.n; i++) {
        b->at[i] = c->bank.share[i].left ? b->beside : -1;
        b->beside += c->bank.share[i].left ? c->bank.share[i].rank : 0;
    }
    if (b->beside > 0)
        rc = set_all(b, m, e);
    if (rc != 0) {
        bank_close(b);
        return rc;
    }
    sd_beside_set(m, b->beside);
    *out = b;
    return 0;
}

void bank_close(bank *b)
{
    if (b)
        free(b->at);
    free(b);
}

/* ---- prompts ---- */

/* z += weight right c */
static void add_share(const bank *b, int i, float weight, const float *c, float *z)
{
    const concept_share *x = &b->c->bank.share[i];

    for (int r = 0; r < x->rank; r++) {
        double sum = 0;
        for (int j = 0; j < b->width; j++)
            sum += x->right[(size_t)r * (size_t)b->width + (size_t)j] * (double)c[j];
        z[b->at[i] + r] += weight * (float)sum;
    }
}

/* Who is asked for, each once, in the order of the prompt; how many. */
static int list_shares(const bank *b, const int32_t ids[], int tokens, int list[])
{
    int n = 0;

    for (int p = 0; p < tokens; p++) {
        int i = share_of(b, ids[p]), k = 0;
        while (i >= 0 && k < n && list[k] != i)
            k++;
        if (i >= 0 && k == n)
            list[n++] = i;
    }
    return n;
}

/* z = c everywhere, for the one concept whose word the prompt has. */
static void plain_features(const bank *b, const int32_t prompt[], int tokens, const float *text, float *out)
{
    int *list = NEW_N(int, tokens), n = list_shares(b, prompt, tokens, list);
    size_t width = (size_t)b->width, all = width + (size_t)b->beside;

    for (size_t p = 0; p < (size_t)tokens; p++) {
        const float *c = text + p * width;
        float *to = out + p * all;
        memcpy(to, c, width * sizeof *to);
        memset(to + width, 0, (size_t)b->beside * sizeof *to);
        if (n > 0)
            memcpy(to + width + b->at[list[0]], c, (size_t)b->c->bank.share[list[0]].rank * sizeof *to);
    }
    free(list);
}

void bank_features(const bank *b, const int32_t prompt[], const int32_t ids[], int tokens, int32_t eos, const float *text,
                   float *out)
{
    if (b->c->bank.n > 0 && b->c->bank.share[0].plain) {
        plain_features(b, prompt, tokens, text, out);
        return;
    }
    int *list = NEW_N(int, tokens), n = list_shares(b, ids, tokens, list), last = -1;
    bool ended = false;

    for (int p = 0; p < tokens; p++) {
        const float *c = text + (size_t)p * (size_t)b->width;
        float *to = out + (size_t)p * (size_t)(b->width + b->beside), *z = to + b->width;
        int here = share_of(b, ids[p]);

        ended |= p > 0 && ids[p] == eos;
        last = here >= 0 ? here : last;
        memcpy(to, c, (size_t)b->width * sizeof *to);
        memset(z, 0, (size_t)b->beside * sizeof *z);
        for (int k = 0; ended && k < n; k++)
            add_share(b, list[k], 1 / (float)n, c, z);
        if (!ended && last >= 0)
            add_share(b, last, 1, c, z);
    }
    free(list);
}
