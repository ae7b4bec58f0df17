/* Plain concepts beside one base; see bank.h. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/bank.h"

/* ---- what may lie side by side ---- */

static int check_file(const concept *c, const concept *first, const char *path, const char *first_path, err *e)
{
    if (c->bank.n > 0)
        return err_set(e, ERR_INPUT, "%s is a bank, which goes alone: merge the others into it (cfarm merge --relax bank)", path);
    for (int i = 0; i < c->n_tensors; i++)
        if (!concept_is_kv(c->tensors[i].name))
            return err_set(e, ERR_INPUT, "%s moves %s; side by side go concepts that move keys, values and words only", path,
                           c->tensors[i].name);
    if (strcmp(c->base, first->base) != 0 || c->width != first->width)
        return err_set(e, ERR_INPUT, "%s was made from another base model (%.12s) than %s (%.12s)", path, c->base, first_path,
                       first->base);
    return 0;
}

static int add_words(concept *to, const concept *from, const char *path, err *e)
{
    for (int i = 0; i < from->n_tokens; i++) {
        const concept_token *x = &from->tokens[i];

        for (int k = 0; k < to->n_tokens; k++)
            if (strcmp(to->tokens[k].word, x->word) == 0)
                return err_set(e, ERR_INPUT, "%s teaches %s, as another of the files does; a merge gives it another name", path,
                               x->word);
    }
    for (int i = 0; i < from->n_tokens; i++) {
        const concept_token *x = &from->tokens[i];
        concept_add_token(to, x->word, x->class_word, x->initial_id, x->row);
    }
    return 0;
}

/* ---- how far keys and values moved ---- */

static int list_matrices(concept_bank *k, const sd *m, err *e)
{
    const char *name;

    for (size_t i = 0; (name = sd_kv_name(m, i)) != NULL; i++) {
        nn_shape s;
        TRY(sd_file_shape(m, name, &s, e));
        k->matrix = mem_grow(k->matrix, i + 1, sizeof *k->matrix);
        k->matrix[k->matrices++] = (concept_matrix){mem_text(name + strlen("unet.")), s.d[0]};
        k->outs += s.d[0];
        k->width = (int)s.d[1];
    }
    return 0;
}

/* W - W0 of one matrix, turned, into its columns of left [width, outs]. */
static int put_moved(float *left, int64_t outs, const sd *m, const concept *c, const char *name, int64_t rows, int64_t width,
                     err *e)
{
    size_t count = (size_t)(rows * width);
    float *w0 = NEW_N(float, count), *w = NEW_N(float, count);
    bool changed;
    int rc = sd_file_read(m, name, w0, count, e);

    if (rc == 0)
        rc = concept_weight(c, name + strlen("unet."), w0, rows, width, w, &changed, e);
    for (int64_t o = 0; rc == 0 && o < rows; o++)
        for (int64_t i = 0; i < width; i++)
            left[i * outs + o] = w[o * width + i] - w0[o * width + i];
    free(w);
    free(w0);
    return rc;
}

static int fill_share(concept_share *x, const concept_bank *k, const sd *m, const concept *c, err *e)
{
    bool moves = c->n_tensors > 0 || c->factors.matrices > 0;
    int64_t first = 0;
    void *left;

    x->rank = moves ? k->width : 0;
    TRY(mem_big(&left, (size_t)(x->rank * k->outs + 1) * sizeof(float), "a concept's keys and values", e));
    x->left = left;
    for (int i = 0; moves && i < k->matrices; first += k->matrix[i++].rows)
        TRY(put_moved(x->left + first, k->outs, m, c, sd_kv_name(m, (size_t)i), k->matrix[i].rows, k->width, e));
    return 0;
}

static int gather(concept *to, const sd *m, const concept files[], const char *const paths[], int n, err *e)
{
    concept_bank *k = &to->bank;

    TRY(list_matrices(k, m, e));
    k->share = NEW_N(concept_share, n);
    k->n = n;
    for (int i = 0; i < n; i++) {
        TRY(check_file(&files[i], &files[0], paths[i], paths[0], e));
        k->share[i] = (concept_share){.first = to->n_tokens, .words = files[i].n_tokens, .plain = true};
        TRY(add_words(to, &files[i], paths[i], e));
        if (fill_share(&k->share[i], k, m, &files[i], e) != 0)
            return err_wrap(e, "%s", paths[i]);
    }
    return 0;
}

int bank_of_plain(concept *out, const sd *m, const concept files[], const char *const paths[], int n, err *e)
{
    CHECK(n > 0);
    *out = (concept){.kind = CONCEPT_MERGED, .width = files[0].width};
    out->method = mem_text(files[0].method);
    out->base = mem_text(files[0].base);
    out->base_path = mem_text(files[0].base_path);
    int rc = gather(out, m, files, paths, n, e);
    if (rc != 0)
        concept_free(out);
    return rc;
}

/* ---- prompts ---- */

int bank_check_prompt(const concept *c, const tokenizer *t, const char *prompt, err *e)
{
    bool *wanted = NEW_N(bool, c->bank.n + 1);
    int said = 0;

    bank_wanted(wanted, c, t, prompt);
    for (int i = 0; i < c->bank.n; i++)
        said += wanted[i] && c->bank.share[i].plain;
    free(wanted);
    return said < 2 ? 0 : err_set(e, ERR_INPUT, "\"%s\" has words of two files; what they are together a merge says (cfarm merge)",
                                  prompt);
}
