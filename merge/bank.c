/* A bank: every concept keeps its own update, solved as if it were alone, beside a base that nobody touches; which
 * positions of a prompt an update is for follows from the words in it (data/concept.h). Nothing is shared, so nothing
 * conflicts, and the number of concepts has no limit but the disk. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "merge/compose.h"
#include "merge/compose_impl.h"

/* One concept's solve, and what is told of it. */
typedef struct {
    double *right;
    int rank;
    double before, after, drift, miss, kkt, condition; /* before, after: |.|^2 until told as shares */
    err e;
} one;

/* [fixed + n, width]: the first token where it is to stay, then the concept's rows. */
static double *rows_of(const concept_card *card, const features *f, bool fixed)
{
    size_t w = (size_t)card->width;
    double *k = NEW_N(double, ((size_t)card->n + 1) * w);
    for (size_t j = 0; fixed && j < w; j++)
        k[j] = f->bos[j];
    for (size_t j = 0; j < (size_t)card->n * w; j++)
        k[(fixed ? w : 0) + j] = card->k[j];
    return k;
}

/* |images' x|^2, x [n]: of what a combination of the concept's images adds up to. */
static double combined(const concept_card *card, const double *x, double *sum)
{
    size_t outs = (size_t)card->outs;
    memset(sum, 0, outs * sizeof *sum);
    for (int i = 0; i < card->n; i++)
        for (size_t o = 0; x[i] != 0 && o < outs; o++)
            sum[o] += x[i] * (double)card->image[(size_t)i * outs + o];
    return cblas_ddot(card->outs > INT32_MAX ? 0 : (int)outs, sum, 1, sum, 1);
}

/* Row i gets the images weighed by (P k_i); it should get its own alone. */
static void find_residuals(one *x, const concept_card *card, const double *k)
{
    int n = card->n, d = card->width;
    double *at = NEW_N(double, (size_t)n *(size_t)n), *sum = NEW_N(double, card->outs), wanted = 0;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1.0, k, d, x->right, d, 0.0, at, n);
    for (int i = 0; i < n; i++) {
        double *row = at + (size_t)i * (size_t)n;
        row[i] -= 1;
        x->after += combined(card, row, sum);
        x->before += cblas_dsdot((int)card->outs, card->image + (size_t)i * (size_t)card->outs, 1,
                                 card->image + (size_t)i * (size_t)card->outs, 1);
        wanted += card->row[i].wanted * card->row[i].wanted;
    }
    wanted += wanted == 0;
    x->before = sqrt(x->before / wanted);
    x->after = sqrt(x->after / wanted);
    free(at);
    free(sum);
}

/* |(W - W0) R'| of this concept alone, as a share: trace(M H), M the images' moments and H = Z Z', Z = P F'. */
static void find_drift(one *x, const concept_card *card, const features *f)
{
    int n = card->n, d = card->width, outs = (int)card->outs;
    double *z = NEW_N(double, (size_t)n *(size_t)d), sum = 0;
    float *moment = NEW_N(float, (size_t)n *(size_t)n);
    lsq_factor_apply(&f->keep, x->right, n, z);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, outs, 1, card->image, outs, card->image, outs, 0, moment,
                n);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            sum += (double)moment[i * n + j] *
                   cblas_ddot(d, z + (size_t)i * (size_t)d, 1, z + (size_t)j * (size_t)d, 1);
    x->drift = sqrt(fmax(sum, 0)) / compose_norm(f->keep_norm, f->matrices);
    free(z);
    free(moment);
}

static int refuse_rows(const concept_card *card, const lsq_report *r, bool fixed, err *e)
{
    int row = r->dependent[r->n_dependent - 1] - fixed;
    return err_set(e, ERR_INPUT, "its target row %s depends on its others", row >= 0 ? card->row[row].label : "of the first token");
}

static int solve(one *x, const concept_card *card, const features *f, bool fixed, err *e)
{
    double *k = rows_of(card, f, fixed);
    lsq_problem in = {.s = card->n + fixed, .fixed = fixed, .k = k};
    lsq_report r = {0};
    int rc;
    x->rank = card->n;
    x->right = NEW_N(double, (size_t)card->n *(size_t)card->width);
    rc = lsq_solve(x->right, &r, &f->keep, &in, e);
    if (rc == 0 && r.reason != LSQ_SOLVED)
        rc = refuse_rows(card, &r, fixed, e);
    if (rc == 0) {
        x->miss = r.miss;
        x->kkt = r.kkt;
        x->condition = r.condition;
        find_residuals(x, card, k + (fixed ? card->width : 0));
        find_drift(x, card, f);
    }
    lsq_report_free(&r);
    free(k);
    return rc;
}

/* Each on a core of its own: they have nothing to do with each other. */
static int solve_all(one *x, const concept in[], const char *const file[], int n, const features *f, bool fixed, err *e)
{
    int threads = openblas_get_num_threads();
    openblas_set_num_threads(1);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++)
        solve(&x[i], &in[i].card, f, fixed, &x[i].e);
    openblas_set_num_threads(threads);
    for (int i = 0; i < n; i++)
        if (x[i].e.code != ERR_NONE) {
            *e = x[i].e;
            return err_wrap(e, "%s", file[i]);
        }
    return 0;
}

static int check_all(const concept in[], const char *const file[], int n, const features *f, err *e)
{
    for (int i = 0; i < n; i++) {
        int rc = rows_check(&in[i], f, e);
        if (rc == 0 && in[i].n_tokens == 0)
            rc = err_set(e, ERR_INPUT, "has no word of its own, and a bank's concepts are addressed by their words");
        if (rc != 0)
            return err_wrap(e, "%s", file[i]);
    }
    return 0;
}

/* ---- what is told ---- */

static void certify(certificate *c, const one *x, const concept in[], const char *const file[], int n, const words *w,
                    const features *f, bool fixed)
{
    *c = (certificate){.n = n, .concept = NEW_N(certificate_concept, n), .reason = LSQ_SOLVED, .bank = true};
    c->bos_fixed = fixed;
    c->available = f->width;
    c->caption_condition = f->keep.condition;
    c->captions = f->n_keep;
    c->drift_held = -1;
    c->worst = mem_text("");
    for (int i = 0; i < n; i++) {
        c->concept[i] = (certificate_concept){mem_text(fs_base(file[i])), words_told(w, in, i), x[i].rank, 0, x[i].before,
                                              x[i].after};
        c->used = x[i].rank + fixed > c->used ? x[i].rank + fixed : c->used;
        c->drift_worst = fmax(c->drift_worst, x[i].drift);
        c->miss = fmax(c->miss, x[i].miss);
        c->kkt = fmax(c->kkt, x[i].kkt);
        c->condition = fmax(c->condition, x[i].condition);
    }
}

static char *recipe_of(const features *f, bool fixed)
{
    json_t *o = json_pack("{s:s s:s s:s s:s}", "program", "conceptfarm " CFARM_VERSION, "operation", "bank", "bos",
                          fixed ? "fixed" : "free", "captions", f->captions);
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

static void fill_bank(concept *out, one *x, concept in[], int n, const features *f)
{
    concept_bank *b = &out->bank;
    int first = 0;
    *b = (concept_bank){.n = n, .width = f->width, .matrices = f->matrices, .share = NEW_N(concept_share, n)};
    b->matrix = compose_matrices(f, &b->outs);
    for (int i = 0; i < n; i++) {
        b->share[i] = (concept_share){.first = first, .words = in[i].n_tokens, .rank = x[i].rank, .left = in[i].card.image,
                                      .right = x[i].right};
        in[i].card.image = NULL;
        x[i].right = NULL;
        first += in[i].n_tokens;
    }
}

int compose_bank(concept *out, certificate *told, concept in[], const char *const file[], int n, const features *f,
                 const compose_opts *o, err *e)
{
    one *x = NEW_N(one, n);
    words w = {0};
    int rc = check_all(in, file, n, f, e);
    for (int i = 0; rc == 0 && i < n; i++)
        if (o->weight && o->weight[i] != 1)
            rc = err_set(e, ERR_INPUT, "%s: a bank keeps whole concepts; --weight is for a merge", file[i]);
    *told = (certificate){0};
    if (rc == 0)
        rc = words_choose(&w, in, file, n, o, e);
    if (rc == 0)
        rc = solve_all(x, in, file, n, f, !o->bos_free, e);
    if (rc == 0) {
        certify(told, x, in, file, n, &w, f, !o->bos_free);
        rc = certificate_judge(told, o->accept_drift, e);
    }
    if (rc == 0) {
        compose_fill(out, in, file, n, &w, f, recipe_of(f, !o->bos_free));
        fill_bank(out, x, in, n, f);
        out->certificate = certificate_json(told);
    }
    for (int i = 0; i < n; i++)
        free(x[i].right);
    free(x);
    words_free(&w, in);
    if (rc != 0)
        certificate_free(told);
    return rc;
}
