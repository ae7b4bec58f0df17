#include "trainer/card.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

#define GAP "{}"
enum { PHOTO_WITHIN = 15, PHOTO_SKIP = 4 }; /* characters looked at; tokens passed over (BOS, photo, of, a) */

void card_span_of(card_span *out, const tokenizer *t, const char *text)
{
    char head[PHOTO_WITHIN + 1];
    str_copy(head, sizeof head, text);
    tokenizer_encode(t, text, out->id);
    for (out->end = 0; out->end < TOKENS - 1 && out->id[out->end] != tokenizer_eos(t);)
        out->end++;
    out->first = strstr(head, "photo of a") ? PHOTO_SKIP : 1;
    if (out->first > out->end)
        out->first = out->end;
}

/* ---- rows of one prompt ---- */

/* "49406 320 <new1>": the ids up to and including position p, modifier words spelled. */
static char *key_of(const card_span *s, int p, int32_t vocab, const char *const words[], int n_words)
{
    str key = {0};
    for (int i = 0; i <= p; i++) {
        int word = s->id[i] - vocab;
        if (word >= 0 && word < n_words)
            str_add(&key, "%s%s", i ? " " : "", words[word]);
        else
            str_add(&key, "%s%d", i ? " " : "", (int)s->id[i]);
    }
    return key.at;
}

static char *label_of(const card_span *s, int p, int32_t vocab, const char *const words[], int n_words,
                      const char *prompt)
{
    str label = {0};
    int word = s->id[p] - vocab;
    if (word >= 0 && word < n_words)
        str_add(&label, "\"%s\" at %s", prompt, words[word]);
    else if (p == s->end)
        str_add(&label, "\"%s\" at its end", prompt);
    else
        str_add(&label, "\"%s\" at token %d", prompt, p);
    return label.at;
}

static bool has_key(const concept_card *c, const char *key)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->row[i].key, key) == 0)
            return true;
    return false;
}

static void add_row(concept_card *c, char *label, char *key, const float *k)
{
    size_t width = (size_t)c->width, n = (size_t)c->n;
    c->row = mem_grow(c->row, n + 1, sizeof *c->row);
    c->row[n] = (concept_row){.label = label, .key = key};
    c->k = mem_grow(c->k, (n + 1) * width, sizeof *c->k);
    memcpy(c->k + n * width, k, width * sizeof *k);
    c->n++;
}

int card_add_prompt(concept_card *out, sd *m, const tokenizer *t, const char *const words[], int n_words,
                    const char *prompt, err *e)
{
    int32_t vocab = tokenizer_vocab(t);
    size_t width = (size_t)sd_text_shape(m)->width;
    card_span s;
    float *text;
    int rc;
    card_span_of(&s, t, prompt);
    text = NEW_N(float, (size_t)(s.end + 1) * width);
    rc = sd_text_encode(m, s.id, 1, s.end + 1, text, e); /* causal: what follows the end token changes nothing */
    out->width = (int)width;
    for (int p = s.first; rc == 0 && p <= s.end; p++) {
        char *key = key_of(&s, p, vocab, words, n_words);
        if (has_key(out, key))
            free(key);
        else
            add_row(out, label_of(&s, p, vocab, words, n_words, prompt), key, text + (size_t)p * width);
    }
    if (rc == 0 && !out->bos)
        out->bos = mem_copy(text, width * sizeof *text);
    free(text);
    return rc == 0 ? 0 : err_wrap(e, "prompt \"%s\"", prompt);
}

/* ---- the prompts of a concept ---- */

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        if ((at == text || at[-1] == ' ') && (at[n] == '\0' || at[n] == ' '))
            return true;
    return false;
}

int card_check_template(const char *text, err *e)
{
    const char *gap = strstr(text, GAP);
    if (gap && !strstr(gap + 1, GAP))
        return 0;
    return err_set(e, ERR_INPUT, "\"%.100s\": one {} is wanted in it, for the words and their class", text);
}

static int add_template(concept_card *out, sd *m, const tokenizer *t, const char *const words[], int n_words, const char *what,
                        const char *template, err *e)
{
    char prompt[512];
    const char *gap = strstr(template, GAP);
    TRY(card_check_template(template, e));
    int n = snprintf(prompt, sizeof prompt, "%.*s%s%s", (int)(gap - template), template, what, gap + strlen(GAP));
    if (n >= (int)sizeof prompt)
        return err_set(e, ERR_INPUT, "words and class of %zu bytes are too long for a prompt", strlen(what));
    return card_add_prompt(out, m, t, words, n_words, prompt, e);
}

static int add_subject(concept_card *out, sd *m, const tokenizer *t, const char *const words[], int n_words, const char *what,
                       const card_opts *o, err *e)
{
    const char *const usual[] = {GAP, has_word(what, "art")         ? "painting in the style of " GAP
                                      : o->rows == CARD_AUTHORS ? "a photo of " GAP
                                                                : "photo of a " GAP};
    const char *const *templates = o->n_templates > 0 ? o->templates : usual;
    int n = o->n_templates > 0 ? o->n_templates : (int)(sizeof usual / sizeof *usual);
    for (int i = 0; i < n; i++)
        TRY(add_template(out, m, t, words, n_words, what, templates[i], e));
    return 0;
}

/* The prompts of each token; for a concept without one, of its class. */
static int add_prompts(concept_card *out, const concept *c, sd *m, const tokenizer *t, const card_opts *o, err *e)
{
    const char **words = NEW_N(const char *, c->n_tokens + 1);
    char what[512];
    int rc = 0;
    for (int i = 0; i < c->n_tokens; i++)
        words[i] = c->tokens[i].word;
    for (int i = 0; rc == 0 && i < c->n_tokens; i++) {
        const char *class_word = c->tokens[i].class_word;
        snprintf(what, sizeof what, "%s%s%s", words[i], class_word[0] ? " " : "", class_word);
        rc = add_subject(out, m, t, words, c->n_tokens, what, o, e);
    }
    if (c->n_tokens == 0)
        rc = add_subject(out, m, t, words, 0, o->class_word, o, e);
    free(words);
    return rc;
}

static int open_words(tokenizer **t, const concept *c, sd *m, err *e)
{
    TRY(sd_words(t, m, e));
    for (int i = 0; i < c->n_tokens; i++) {
        int32_t id;
        int rc = tokenizer_add(*t, c->tokens[i].word, &id, e);
        if (rc != 0) {
            tokenizer_close(*t);
            return rc;
        }
    }
    return 0;
}

static int encode_rows(concept_card *out, const concept *c, sd *m, const card_opts *o, err *e)
{
    tokenizer *t;
    int rc;
    TRY(open_words(&t, c, m, e));
    rc = add_prompts(out, c, m, t, o, e);
    tokenizer_close(t);
    return rc;
}

/* ---- images ---- */

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double dot_of_change(const float *w, const float *w0, const float *k, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)w[i] - (double)w0[i]) * (double)k[i];
    return sum;
}

/* image[:, at .. at + rows) = (W - W0) k, and what |W k|^2 adds to each row's `wanted` (squared until the end). */
static void images_of(concept_card *c, int64_t at, const float *w, const float *w0, int64_t rows)
{
    for (int i = 0; i < c->n; i++) {
        const float *k = c->k + (size_t)i * (size_t)c->width;
        float *image = c->image + i * c->outs + at;
        for (int64_t r = 0; r < rows; r++) {
            double wanted = dot(w + r * c->width, k, c->width);
            image[r] = w == w0 ? 0 : (float)dot_of_change(w + r * c->width, w0 + r * c->width, k, c->width);
            c->row[i].wanted += wanted * wanted;
        }
    }
}

static int list_matrices(concept_card *out, const sd *m, err *e)
{
    const char *name;
    nn_shape shape;
    for (size_t i = 0; (name = sd_kv_name(m, i)) != NULL; i++) {
        TRY(sd_file_shape(m, name, &shape, e));
        if (shape.n != 2 || shape.d[1] != out->width)
            return err_set(e, ERR_SHAPE, "%s does not take text features of %d numbers", name, out->width);
        out->matrix = mem_grow(out->matrix, i + 1, sizeof *out->matrix);
        out->matrix[out->matrices++] = (concept_matrix){mem_text(name + strlen("unet.")), shape.d[0]};
        out->outs += shape.d[0];
    }
    return out->matrices ? 0 : err_set(e, ERR_INPUT, "the model has no cross-attention");
}

static int fill_images(concept_card *out, const concept *c, const sd *m, err *e)
{
    int64_t at = 0;
    out->image = NEW_N(float, (size_t)out->n *(size_t)out->outs);
    for (int i = 0; i < out->matrices; i++) {
        const concept_matrix *x = &out->matrix[i];
        const concept_tensor *t = concept_find(c, x->name);
        size_t count = (size_t)x->rows * (size_t)out->width;
        float *w0 = NEW_N(float, count);
        char name[256];
        snprintf(name, sizeof name, "unet.%s", x->name);
        int rc = sd_file_read(m, name, w0, count, e);
        if (rc == 0 && t && (t->rows != x->rows || t->cols != out->width))
            rc = err_set(e, ERR_SHAPE, "%s is [%lld,%lld] in the concept and [%lld,%d] in the base model", x->name,
                         (long long)t->rows, (long long)t->cols, (long long)x->rows, out->width);
        if (rc == 0)
            images_of(out, at, t ? t->data : w0, w0, x->rows);
        free(w0);
        TRY(rc);
        at += x->rows;
    }
    for (int i = 0; i < out->n; i++)
        out->row[i].wanted = sqrt(out->row[i].wanted);
    return 0;
}

int card_images(concept_card *card, const concept *c, const sd *m, err *e)
{
    TRY(list_matrices(card, m, e));
    return fill_images(card, c, m, e);
}

static bool moves_only_kv(const concept *c)
{
    for (int i = 0; i < c->n_tensors; i++)
        if (!concept_is_kv(c->tensors[i].name))
            return false;
    return true;
}

int card_make(concept_card *out, const concept *c, sd *m, const card_opts *o, err *e)
{
    int rc;
    *out = (concept_card){0};
    if (!moves_only_kv(c) || (c->n_tokens == 0 && !o->class_word))
        return 0;
    if (sd_text_rows(m) != c->n_tokens)
        return err_set(e, ERR_INPUT, "the model holds %d modifier rows and the concept has %d tokens", sd_text_rows(m),
                       c->n_tokens);
    rc = encode_rows(out, c, m, o, e);
    if (rc == 0)
        rc = card_images(out, c, m, e);
    if (rc != 0)
        concept_card_free(out);
    return rc;
}
