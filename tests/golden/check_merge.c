/* The merges of merge_golden: their inputs become merge cards, which compose() merges as it does a user's. The text
 * features of target prompts and captions are computed from the words, too, and must agree with the golden's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/compose.h"
#include "tests/golden/golden.h"
#include "trainer/card.h"

static const double FEATURES_AGREE = 1e-4; /* relative, as compare.py judges outputs */

typedef struct {
    golden *g;
    sd *m;
    tokenizer *t;
    int vocab, n_words;
    const char *words[64];
    char spelled[64][24];
    features f; /* of the golden's C_reg; every norm 1, for no drift is asked */
} merge_check;

/* ---- features from the words ---- */

static int agree(const float *got, const float *want, size_t n, const char *what, err *e)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        norm += (double)want[i] * (double)want[i];
    }
    if (!(sqrt(diff) <= FEATURES_AGREE * sqrt(norm)))
        return err_set(e, ERR_INPUT, "%s: features computed from the words differ by %.2g", what, sqrt(diff / norm));
    fprintf(stderr, "%s: features from the words agree to %.1e\n", what, sqrt(diff / norm));
    return 0;
}

static int prompts_agree(merge_check *c, const char *name, const json_t *prompts, const float *want, int rows, err *e)
{
    concept_card card = {0};
    const json_t *p;
    size_t i;
    int rc = 0;
    json_array_foreach(prompts, i, p)
    {
        const char *text = NULL;
        rc = json_get_text(p, "prompt", &text, e);
        if (rc == 0)
            rc = card_add_prompt(&card, c->m, c->t, c->words, c->n_words, text, e);
        if (rc != 0)
            break;
    }
    if (rc == 0 && card.n != rows)
        rc = err_set(e, ERR_INPUT, "%s: %d rows from the words where the golden has %d", name, card.n, rows);
    if (rc == 0)
        rc = agree(card.k, want, (size_t)rows * (size_t)card.width, name, e);
    concept_card_free(&card);
    return rc;
}

/* Each caption's rows behind each other; captions repeat prefixes, so nothing is left out here. */
static int captions_agree(merge_check *c, const float *want, int64_t rows, err *e)
{
    const json_t *list = json_object_get(golden_json(c->g, GOLDEN_MERGE), "captions"), *text;
    size_t i, width = (size_t)sd_text_shape(c->m)->width;
    float *got = NEW_N(float, (size_t)(rows + TOKENS) * width), *states = NEW_N(float, TOKENS *width);
    int64_t at = 0;
    int rc = 0;
    json_array_foreach(list, i, text)
    {
        card_span s;
        int64_t n;
        if (rc != 0 || at > rows)
            break;
        card_span_of(&s, c->t, json_string_value(text));
        rc = sd_text_encode(c->m, s.id, 1, s.end + 1, states, e);
        n = at + s.end - s.first + 1 <= rows ? s.end - s.first + 1 : 0;
        memcpy(got + (size_t)at * width, states + (size_t)s.first * width, (size_t)n * width * sizeof *got);
        at += s.end - s.first + 1;
    }
    if (rc == 0 && at != rows)
        rc = err_set(e, ERR_INPUT, "C_reg: %lld rows from the captions where the golden has %lld", (long long)at,
                     (long long)rows);
    if (rc == 0)
        rc = agree(got, want, (size_t)rows * width, "C_reg", e);
    free(got);
    free(states);
    return rc;
}

/* ---- a case ---- */

static int load_concept(merge_check *c, concept *out, int i, err *e)
{
    const char *name;
    char entry[256];
    out->width = c->f.width;
    out->base = mem_text(c->f.base);
    for (size_t k = 0; (name = sd_kv_name(c->m, k)) != NULL; k++) {
        float *data;
        st_tensor shape;
        snprintf(entry, sizeof entry, "concept%d/%s", i + 1, name + strlen("unet."));
        TRY(golden_f32(c->g, entry, &data, &shape, e));
        concept_add_tensor(out, name + strlen("unet."), shape.d[0], shape.d[1], data);
        free(data);
    }
    return 0;
}

/* The golden's rows of concept i as a card: card_images does what training and import ask of it. */
static int give_card(merge_check *c, concept *out, int i, const float *rows, const int32_t *owner, int n, err *e)
{
    size_t width = (size_t)c->f.width;
    concept_card *card = &out->card;
    char text[32];
    card->width = c->f.width;
    card->bos = NEW_N(float, width);
    for (int r = 0; r < n; r++) {
        if (owner[r] != i)
            continue;
        snprintf(text, sizeof text, "row %d", r);
        card->row = mem_grow(card->row, (size_t)card->n + 1, sizeof *card->row);
        card->k = mem_grow(card->k, ((size_t)card->n + 1) * width, sizeof *card->k);
        card->row[card->n] = (concept_row){.label = mem_text(text), .key = mem_text(text)};
        memcpy(card->k + (size_t)card->n++ * width, rows + (size_t)r * width, width * sizeof *rows);
    }
    return card_images(card, out, c->m, e);
}

static int put_merged(merge_check *c, const char *name, const concept *merged, err *e)
{
    const char *kv;
    char entry[256];
    for (size_t k = 0; (kv = sd_kv_name(c->m, k)) != NULL; k++) {
        nn_shape s;
        bool changed;
        TRY(sd_file_shape(c->m, kv, &s, e));
        size_t count = (size_t)nn_count(s);
        float *w0 = NEW_N(float, count), *w = NEW_N(float, count);
        int rc = sd_file_read(c->m, kv, w0, count, e);
        if (rc == 0)
            rc = concept_weight(merged, kv + strlen("unet."), w0, s.d[0], s.d[1], w, &changed, e);
        snprintf(entry, sizeof entry, "%s/W/%s", name, kv + strlen("unet."));
        if (rc == 0)
            golden_put(c->g, entry, w, count);
        free(w0);
        free(w);
        TRY(rc);
    }
    return 0;
}

static int merge_rows(merge_check *c, const char *name, const float *rows, const int32_t *owner, int n, err *e)
{
    static const char *const file[64] = {"1", "2", "3", "4", "5", "6", "7", "8"};
    compose_opts o = {.bos_free = true, .accept_drift = true};
    concept in[8] = {{0}}, merged = {0};
    certificate told;
    int concepts = 0, rc = 0;
    for (int i = 0; i < n; i++)
        concepts = owner[i] >= concepts ? owner[i] + 1 : concepts;
    if (concepts > 8)
        return err_set(e, ERR_INPUT, "%d concepts; this check takes 8", concepts);
    for (int i = 0; rc == 0 && i < concepts; i++) {
        rc = load_concept(c, &in[i], i, e);
        if (rc == 0)
            rc = give_card(c, &in[i], i, rows, owner, n, e);
    }
    if (rc == 0)
        rc = compose(&merged, &told, in, file, concepts, &c->f, &o, e);
    if (rc == 0) {
        certificate_free(&told);
        rc = put_merged(c, name, &merged, e);
    }
    for (int i = 0; i < 8; i++)
        concept_free(&in[i]);
    concept_free(&merged);
    return rc;
}

static int check_case(merge_check *c, const char *name, const json_t *told, err *e)
{
    char entry[128];
    float *rows = NULL;
    int32_t *owner = NULL;
    st_tensor shape;
    int rc;
    snprintf(entry, sizeof entry, "%s/C", name);
    TRY(golden_f32(c->g, entry, &rows, &shape, e));
    snprintf(entry, sizeof entry, "%s/owner", name);
    rc = golden_i32(c->g, entry, &owner, NULL, e);
    if (rc == 0)
        rc = prompts_agree(c, name, json_object_get(told, "prompts"), rows, (int)shape.d[0], e);
    if (rc == 0)
        rc = merge_rows(c, name, rows, owner, (int)shape.d[0], e);
    free(rows);
    free(owner);
    return rc == 0 ? 0 : err_wrap(e, "%s", name);
}

/* ---- what all cases share ---- */

static int open_words(merge_check *c, err *e)
{
    float *rows;
    st_tensor shape;
    int rc;
    TRY(tokenizer_open(&c->t, golden_tokenizer_dir(c->g), e));
    TRY(golden_f32(c->g, "modifier_rows", &rows, &shape, e));
    c->n_words = (int)shape.d[0];
    rc = c->n_words <= 64 ? sd_text_rows_set(c->m, rows, c->n_words, e)
                          : err_set(e, ERR_INPUT, "too many modifier rows");
    free(rows);
    for (int i = 0; rc == 0 && i < c->n_words; i++) {
        int32_t id;
        snprintf(c->spelled[i], sizeof c->spelled[i], "<new%d>", i + 1);
        c->words[i] = c->spelled[i];
        rc = tokenizer_add(c->t, c->words[i], &id, e);
    }
    return rc;
}

static int open_captions(merge_check *c, err *e)
{
    float *rows;
    st_tensor shape;
    const char *name;
    int rc;
    TRY(golden_f32(c->g, "C_reg", &rows, &shape, e));
    c->f.width = (int)shape.d[1];
    rc = captions_agree(c, rows, shape.d[0], e);
    if (rc == 0)
        rc = lsq_factor_new(&c->f.keep, c->f.width, e);
    if (rc == 0)
        rc = lsq_factor_add(&c->f.keep, rows, shape.d[0], e);
    if (rc == 0)
        rc = lsq_factor_judge(&c->f.keep, e);
    free(rows);
    for (int i = 0; rc == 0 && (name = sd_kv_name(c->m, (size_t)i)) != NULL; i++) {
        nn_shape s;
        TRY(sd_file_shape(c->m, name, &s, e));
        c->f.matrix = mem_grow(c->f.matrix, (size_t)i + 1, sizeof *c->f.matrix);
        c->f.keep_norm = mem_grow(c->f.keep_norm, (size_t)i + 1, sizeof *c->f.keep_norm);
        c->f.matrix[c->f.matrices++] = (concept_matrix){mem_text(name + strlen("unet.")), s.d[0]};
        c->f.keep_norm[i] = 1;
    }
    return rc;
}

static int check_cases(merge_check *c, err *e)
{
    json_t *cases = json_object_get(golden_json(c->g, GOLDEN_MERGE), "cases"), *told;
    const char *name;
    char prefix[128];
    TRY(open_words(c, e));
    TRY(open_captions(c, e));
    json_object_foreach(cases, name, told)
    {
        snprintf(prefix, sizeof prefix, "%s/W/", name);
        if (golden_wants_any(c->g, prefix))
            TRY(check_case(c, name, told, e));
    }
    return 0;
}

/* ---- the case without words: matrices given as they are ---- */

typedef struct {
    float *reg, *k, *v, *w0;
    st_tensor reg_shape, k_shape, v_shape, w0_shape;
} plain;

/* W = W0 + (V' - W0 K') P */
static int solve_plain(const plain *q, const lsq_factor *f, float *w, err *e)
{
    int s = (int)q->k_shape.d[0], d = (int)q->k_shape.d[1], out = (int)q->w0_shape.d[0];
    double *k = NEW_N(double, s *d), *p = NEW_N(double, s *d);
    lsq_report r;
    int rc;
    for (int i = 0; i < s * d; i++)
        k[i] = q->k[i];
    rc = lsq_solve(p, &r, f, &(lsq_problem){.s = s, .k = k}, e);
    if (rc == 0 && r.reason != LSQ_SOLVED)
        rc = err_set(e, ERR_INPUT, "target rows depend on each other");
    for (int o = 0; rc == 0 && o < out; o++)
        for (int j = 0; j < d; j++) {
            double sum = q->w0[o * d + j];
            for (int i = 0; i < s; i++) {
                double image = q->v[i * out + o];
                for (int x = 0; x < d; x++)
                    image -= (double)q->w0[o * d + x] * k[i * d + x];
                sum += image * p[i * d + j];
            }
            w[o * d + j] = (float)sum;
        }
    lsq_report_free(&r);
    free(k);
    free(p);
    return rc;
}

static int check_plain(golden *g, err *e)
{
    plain q = {0};
    lsq_factor f = {0};
    int rc = golden_f32(g, "random/C_reg", &q.reg, &q.reg_shape, e);
    if (rc == 0)
        rc = golden_f32(g, "random/C", &q.k, &q.k_shape, e);
    if (rc == 0)
        rc = golden_f32(g, "random/V", &q.v, &q.v_shape, e);
    if (rc == 0)
        rc = golden_f32(g, "random/W0", &q.w0, &q.w0_shape, e);
    if (rc == 0)
        rc = lsq_factor_new(&f, (int)q.reg_shape.d[1], e);
    if (rc == 0)
        rc = lsq_factor_add(&f, q.reg, q.reg_shape.d[0], e);
    if (rc == 0)
        rc = lsq_factor_judge(&f, e);
    if (rc == 0) {
        float *w = NEW_N(float, q.w0_shape.count);
        rc = solve_plain(&q, &f, w, e);
        if (rc == 0)
            golden_put(g, "random/W", w, q.w0_shape.count);
        free(w);
    }
    lsq_factor_free(&f);
    free(q.reg);
    free(q.k);
    free(q.v);
    free(q.w0);
    return rc;
}

int check_merge(golden *g, err *e)
{
    merge_check c = {.g = g};
    int rc = 0;
    if (!golden_json(g, GOLDEN_MERGE))
        return 0;
    if (golden_wants_any(g, "random/"))
        TRY(check_plain(g, e));
    if (golden_has(g, "C_reg")) {
        rc = golden_sd(g, &c.m, e);
        if (rc == 0)
            rc = check_cases(&c, e);
    }
    tokenizer_close(c.t);
    features_free(&c.f);
    return rc;
}
