/* From a merged file to one with some concepts more, less or weighed otherwise. With N rows the change of the update is
 *     X_new = X + E C R,   E [outs, N] the images of all rows, C [N, r], R [r, d]   (lsq_update; r: rows that change)
 * so |X_new F'|^2 = |X F'|^2 + 2 <E A, E C> + |E C S|^2, where X = E P, A = P F'F R', S S' = R F'F R': the drift of every
 * matrix by one look at the images and no moments. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "merge/compose_impl.h"

enum { BLOCK = 64 }; /* rows of images at a time: they stay in the cache between being turned to doubles and used */

typedef struct {
    const concept *in, *merged;
    const int *source;
    const char *const *file;
    int n;
    const features *f;
    const compose_opts *o;
    words w;
    rows r;
    int known, come; /* rows of the merged file; rows it does not have */
    int *now;        /* [known] */
    int *was;        /* [r.n] which of the known rows; beyond those, the added ones in order */
    double *before;  /* [known] weights in the merged file */
    double *old_p;   /* [known, width] right factors without weights */
    double *p;       /* [r.n, width] the new ones, without weights until the end */
    lsq_report report;
    lsq_change change; /* with weights, after weigh_change */
    double *length;    /* [known + come] |e_i|^2 */
    double *moved;
} job;

static void close_job(job *j)
{
    words_free(&j->w, j->in);
    rows_free(&j->r);
    lsq_report_free(&j->report);
    lsq_change_free(&j->change);
    free(j->now);
    free(j->was);
    free(j->before);
    free(j->old_p);
    free(j->p);
    free(j->length);
    free(j->moved);
}

/* ---- whether it can be done this way ---- */

static const char *not_alike(const job *j)
{
    json_t *o = j->merged->recipe ? json_loads(j->merged->recipe, 0, NULL) : NULL;
    const char *captions = json_string_value(json_object_get(o, "captions")), *bos = json_string_value(json_object_get(o, "bos"));
    const char *why = NULL;
    if (j->o->relax || json_number_value(json_object_get(o, "ridge")) != 0)
        why = "a ridge weighs all rows against each other";
    else if (!j->merged->factors.moved)
        why = "the merged file does not keep how far its matrices moved";
    else if (!captions || strcmp(captions, j->f->captions) != 0)
        why = "the merged file was made with other captions";
    else if (!bos || (strcmp(bos, "free") == 0) != j->o->bos_free)
        why = "the merged file treats the first token otherwise";
    json_decref(o);
    return why;
}

/* Row `at` of source s, counted as again_open does. */
static int known_row(const concept_factors *f, int s, int at)
{
    for (int r = 0; r < f->rank; r++)
        if (f->source[r] == s && at-- == 0)
            return r;
    return -1;
}

static double weight_of(const job *j, int row)
{
    return j->o->weight ? j->o->weight[j->r.from[row]] : 1;
}

static void map_rows(job *j)
{
    const concept_factors *f = &j->merged->factors;
    size_t d = (size_t)f->width;
    j->known = f->rank;
    j->now = NEW_N(int, f->rank);
    j->was = NEW_N(int, j->r.n);
    j->before = NEW_N(double, f->rank);
    j->old_p = NEW_N(double, (size_t)f->rank *d);
    for (int i = 0; i < f->rank; i++) {
        const concept_source *s = &j->merged->sources[f->source[i]];
        j->now[i] = -1;
        j->before[i] = s->weight != 0 ? s->weight : 1;
        for (size_t k = 0; k < d; k++)
            j->old_p[(size_t)i * d + k] = f->right[(size_t)i * d + k] / j->before[i];
    }
    for (int i = 0; i < j->r.n; i++) {
        int s = j->source[j->r.from[i]];
        j->was[i] = s >= 0 ? known_row(f, s, j->r.at[i]) : j->known + j->come++;
        if (s >= 0)
            j->now[j->was[i]] = i;
    }
}

static const char *too_much(const job *j)
{
    int changes = j->come;
    for (int i = 0; i < j->known; i++)
        changes += j->now[i] < 0 || weight_of(j, j->now[i]) != j->before[i];
    return 2 * changes >= j->known ? "half of its rows or more change" : NULL;
}

/* ---- the solve ---- */

static int update(job *j, const char **why, err *e)
{
    const concept_factors *f = &j->merged->factors;
    size_t count = (size_t)f->rank * (size_t)f->width;
    lsq_problem in = {.s = j->r.s, .fixed = j->r.fixed, .k = j->r.k};
    double *k = NEW_N(double, count);
    lsq_known was = {.n = f->rank, .k = k, .p = j->old_p, .now = j->now};
    int rc;
    for (size_t i = 0; i < count; i++)
        k[i] = f->k[i];
    j->p = NEW_N(double, (size_t)j->r.n *(size_t)j->r.width);
    rc = lsq_update(j->p, &j->report, &j->change, &j->f->keep, &in, &was, e);
    if (rc == 0 && j->report.reason != LSQ_SOLVED)
        *why = "too little is left of a new row, or of the digits";
    free(k);
    return rc;
}

/* C times the weights that hold: the old ones for the known rows, whose change of weight is as many columns more. */
static void weigh_change(job *j)
{
    lsq_change c = j->change, all = {.rank = c.rank};
    size_t d = (size_t)j->r.width, n = (size_t)(j->known + j->come);
    for (int i = 0; i < j->known; i++)
        all.rank += j->now[i] >= 0 && weight_of(j, j->now[i]) != j->before[i];
    all.c = NEW_N(double, n *(size_t)all.rank + 1);
    all.r = NEW_N(double, (size_t)all.rank *d + 1);
    memcpy(all.r, c.r, sizeof(double) * (size_t)c.rank * d);
    for (int i = 0; i < j->r.n; i++)
        if (j->was[i] >= j->known)
            for (int k = 0; k < c.rank; k++)
                all.c[j->was[i] * all.rank + k] = weight_of(j, i) * c.c[j->was[i] * c.rank + k];
    for (int i = 0, at = c.rank; i < j->known; i++) {
        for (int k = 0; k < c.rank; k++)
            all.c[i * all.rank + k] = j->before[i] * c.c[i * c.rank + k];
        if (j->now[i] < 0 || weight_of(j, j->now[i]) == j->before[i])
            continue;
        memcpy(all.r + (size_t)at * d, j->p + (size_t)j->now[i] * d, sizeof(double) * d);
        all.c[i * all.rank + at++] = weight_of(j, j->now[i]) - j->before[i];
    }
    lsq_change_free(&j->change);
    j->change = all;
}

/* ---- one look at the images ---- */

/* Of one list of captions: columns of A go into `to` [N, ld]; returns R F'F R' [r, r]. */
static double *see_factor(const job *j, const lsq_factor *f, double *to, int ld)
{
    int rank = j->change.rank, d = j->r.width;
    double *v = NEW_N(double, (size_t)rank *(size_t)d + 1), *s = NEW_N(double, (size_t)rank *(size_t)rank + 1);
    lsq_factor_apply(f, j->change.r, rank, v);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rank, rank, d, 1.0, v, d, v, d, 0.0, s, rank);
    cblas_dtrmm(CblasColMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, d, rank, 1.0, f->f, d, v, d);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, j->known, rank, d, 1.0, j->old_p, d, v, d, 0.0, to, ld);
    for (int i = 0; i < j->known; i++)
        cblas_dscal(rank, j->before[i], to + (size_t)i * (size_t)ld, 1);
    free(v);
    return s;
}

/* Images of all rows at outputs at .. at + n: [n, N] as doubles. */
static void take_images(const job *j, int64_t at, int n, double *to)
{
    size_t all = (size_t)(j->known + j->come);
    const float *left = j->merged->factors.left + at * j->known;
    for (size_t o = 0; o < (size_t)n; o++)
        for (size_t i = 0; i < (size_t)j->known; i++)
            to[o * all + i] = left[o * (size_t)j->known + i];
    for (int i = 0; i < j->r.n; i++) {
        const concept_card *card = &j->in[j->r.from[i]].card;
        if (j->was[i] < j->known)
            continue;
        for (int o = 0; o < n; o++)
            to[(size_t)o * all + (size_t)j->was[i]] = card->image[j->r.at[i] * card->outs + at + o];
    }
}

/* 2 <a, c> + |c S|^2 with S S' = s; a, c: rank columns of x [n, ld] */
static double gain(const double *x, int ld, int a, int c, int n, int rank, const double *s)
{
    double sum = 0;
    for (int o = 0; o < n; o++) {
        const double *xa = x + o * ld + a, *xc = x + o * ld + c;
        for (int k = 0; k < rank; k++) {
            double row = 2 * xa[k];
            for (int l = 0; l < rank; l++)
                row += s[k * rank + l] * xc[l];
            sum += row * xc[k];
        }
    }
    return sum;
}

typedef struct {
    int ld;         /* columns: A of the captions, A of those held out, C */
    double *g;      /* [N, ld] */
    double *s[2];   /* of both */
    double *e, *x;  /* [BLOCK, N], [BLOCK, ld] */
} look;

static void see_block(job *j, look *l, int m, int64_t at, int n)
{
    int all = j->known + j->come, rank = j->change.rank;
    take_images(j, at, n, l->e);
    for (int o = 0; o < n; o++)
        for (int i = 0; i < all; i++)
            j->length[i] += l->e[(size_t)o * (size_t)all + (size_t)i] * l->e[(size_t)o * (size_t)all + (size_t)i];
    if (rank == 0)
        return;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, l->ld, all, 1.0, l->e, all, l->g, l->ld, 0.0, l->x, l->ld);
    j->moved[m] += gain(l->x, l->ld, 0, 2 * rank, n, rank, l->s[0]);
    if (l->s[1])
        j->moved[j->f->matrices] += gain(l->x, l->ld, rank, 2 * rank, n, rank, l->s[1]);
}

static void see_images(job *j)
{
    int rank = j->change.rank;
    size_t all = (size_t)(j->known + j->come);
    look l = {.ld = 3 * rank, .g = NEW_N(double, all * 3 * (size_t)rank + 1), .e = NEW_N(double, BLOCK *all), .x = NULL};
    int64_t at = 0;
    l.x = NEW_N(double, BLOCK * (size_t)l.ld + 1);
    l.s[0] = see_factor(j, &j->f->keep, l.g, l.ld);
    l.s[1] = j->f->n_held > 0 ? see_factor(j, &j->f->held, l.g + rank, l.ld) : NULL;
    for (size_t i = 0; i < all; i++)
        for (int k = 0; k < rank; k++)
            l.g[i * (size_t)l.ld + (size_t)(2 * rank + k)] = j->change.c[i * (size_t)rank + (size_t)k];
    j->length = NEW_N(double, all);
    j->moved = mem_copy(j->merged->factors.moved, sizeof(double) * ((size_t)j->f->matrices + 1));
    for (int m = 0; m < j->f->matrices; at += j->f->matrix[m++].rows)
        for (int64_t b = 0; b < j->f->matrix[m].rows; b += BLOCK) {
            int64_t left = j->f->matrix[m].rows - b;
            see_block(j, &l, m, at + b, left < BLOCK ? (int)left : BLOCK);
        }
    for (int m = 0; m <= j->f->matrices; m++)
        j->moved[m] = fmax(j->moved[m], 0);
    free(l.g);
    free(l.s[0]);
    free(l.s[1]);
    free(l.e);
    free(l.x);
}

/* ---- what is told and written ---- */

/* |E t| is at most the sum of |t_i| |e_i|: rounding, told from above, for the inner products of all images cost more than
 * the merge. Lengths of the rows are those of the new order here. */
static void find_residuals(const job *j, certificate *c)
{
    int n = j->r.n, d = j->r.width;
    double *miss = NEW_N(double, (size_t)n *(size_t)n), *wanted = NEW_N(double, c->n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1.0, j->r.k + (size_t)j->r.fixed * (size_t)d, d, j->p, d, 0.0,
                miss, n);
    for (int i = 0; i < n; i++) {
        certificate_concept *p = &c->concept[j->r.from[i]];
        double want = j->in[j->r.from[i]].card.row[j->r.at[i]].wanted, sum = 0;
        for (int k = 0; k < n; k++)
            sum += weight_of(j, k) * fabs(miss[(size_t)i * (size_t)n + (size_t)k] - (i == k)) * sqrt(j->length[j->was[k]]);
        p->rows++;
        p->before += j->length[j->was[i]];
        p->after += sum * sum;
        wanted[j->r.from[i]] += want * want;
    }
    for (int i = 0; i < c->n; i++) {
        wanted[i] += wanted[i] == 0;
        c->concept[i].before = sqrt(c->concept[i].before / wanted[i]);
        c->concept[i].after = sqrt(c->concept[i].after / wanted[i]);
    }
    free(miss);
    free(wanted);
}

/* Runs of rows that lie together in the merged file are copied together. */
static void fill_left(const job *j, concept_factors *f)
{
    size_t n = (size_t)j->r.n, known = (size_t)j->known;
    const float *old = j->merged->factors.left;
    f->left = NEW_N(float, (size_t)f->outs *n);
    mem_whole(f->left, sizeof *f->left * (size_t)f->outs * n);
    for (size_t i = 0, run; i < n; i += run) {
        const concept_card *card = &j->in[j->r.from[i]].card;
        size_t was = (size_t)j->was[i];
        for (run = 1; was < known && i + run < n && (size_t)j->was[i + run] == was + run && was + run < known;)
            run++;
        for (size_t o = 0; o < (size_t)f->outs; o++)
            if (was < known)
                memcpy(f->left + o * n + i, old + o * known + was, run * sizeof *old);
            else
                f->left[o * n + i] = card->image[(size_t)j->r.at[i] * (size_t)card->outs + o];
    }
}

static int finish(job *j, concept *out, certificate *told, err *e)
{
    const features *f = j->f;
    size_t d = (size_t)j->r.width;
    weigh_change(j);
    see_images(j);
    compose_told(told, j->in, j->file, j->n, &j->w, &j->r, f, &j->report);
    find_residuals(j, told);
    compose_drift(told, f, mem_copy(j->moved, sizeof(double) * ((size_t)f->matrices + 1)));
    TRY(certificate_judge(told, j->o->accept_drift, e));
    for (int i = 0; i < j->r.n; i++)
        cblas_dscal((int)d, weight_of(j, i), j->p + (size_t)i * d, 1);
    compose_fill(out, j->in, j->file, j->n, &j->w, f, compose_recipe(&j->r, f, false, 0));
    compose_factors(&out->factors, j->in, &j->r, f, j->p);
    out->factors.moved = mem_copy(j->moved, sizeof(double) * ((size_t)f->matrices + 1));
    fill_left(j, &out->factors);
    for (int i = 0; i < j->n; i++)
        out->sources[i].weight = j->o->weight ? j->o->weight[i] : 1;
    out->certificate = certificate_json(told);
    return 0;
}

int compose_again(concept *out, certificate *told, const char **why, const compose_start *start, const concept in[],
                  const char *const file[], int n, const features *f, const compose_opts *o, err *e)
{
    job j = {.in = in, .merged = start->merged, .source = start->source, .file = file, .n = n, .f = f, .o = o};
    int rc = 0;
    *out = (concept){0};
    *told = (certificate){0};
    *why = not_alike(&j);
    if (*why)
        return 0;
    rc = words_choose(&j.w, in, file, n, o, e);
    if (rc == 0)
        rc = rows_gather(&j.r, in, file, n, &j.w, f, o, e);
    if (rc == 0) {
        map_rows(&j);
        *why = too_much(&j);
    }
    if (rc == 0 && !*why)
        rc = update(&j, why, e);
    if (rc == 0 && !*why)
        rc = finish(&j, out, told, e);
    close_job(&j);
    if (rc != 0)
        certificate_free(told);
    return rc;
}
