/* From a merged file to one with some concepts more, less or weighed otherwise. With N rows the change of the update is
 *     X_new = X + E C R,   E [outs, N] the images of all rows, C [N, r], R [r, d]   (lsq_update; r: rows that change)
 * so |X_new F'|^2 = |X F'|^2 + 2 <E A, E C> + |E C S|^2, where X = E P, A = P F'F R', S S' = R F'F R': the drift of every
 * matrix by its images under a few probes (probes.h), which tell the change about and leave the images where they lie. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "merge/compose_impl.h"
#include "merge/probes.h"

static const double DOUBT_MOST = 0.05; /* of the drift: beyond it all images are looked at again */

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
    const double *old_p; /* [known, width] right factors without weights */
    double *own_p;       /* the same, where some had a weight */
    double *p;       /* [r.n, width] the new ones, without weights until the end */
    lsq_report report;
    lsq_change change; /* with weights, after weigh_change */
    float *left;       /* [come, outs] images of the rows that come */
    float *seen;       /* [come, probes] */
    double *size;      /* [known + come] |e_i|^2 */
    double *moved, doubt;
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
    free(j->own_p);
    free(j->p);
    free(j->left);
    free(j->seen);
    free(j->size);
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
    else if (!j->merged->factors.moved || !j->merged->factors.seen ||
             j->merged->factors.probes != probes_count(j->merged->factors.matrix, j->merged->factors.matrices))
        why = "the merged file does not keep how far its matrices moved, and what of its images tells how far they will";
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
    j->old_p = f->right;
    for (int i = 0; i < f->rank; i++) {
        const concept_source *s = &j->merged->sources[f->source[i]];
        j->now[i] = -1;
        j->before[i] = s->weight != 0 ? s->weight : 1;
        if (j->before[i] != 1 && !j->own_p)
            j->old_p = j->own_p = mem_copy(f->right, sizeof(double) * (size_t)f->rank * d);
        for (size_t k = 0; k < d && j->before[i] != 1; k++)
            j->own_p[(size_t)i * d + k] /= j->before[i];
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
    lsq_problem in = {.s = j->r.s, .fixed = j->r.fixed, .k = j->r.k};
    lsq_known was = {.n = j->known, .p = j->old_p, .now = j->now};
    int rc;
    j->p = NEW_N(double, (size_t)j->r.n *(size_t)j->r.width);
    rc = lsq_update(j->p, &j->report, &j->change, &j->f->keep, &in, &was, e);
    if (rc == 0 && j->report.reason != LSQ_SOLVED)
        *why = "too little is left of a new row, or of the digits";
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

/* ---- a look at the images, through probes ---- */

static void take_new_images(job *j)
{
    const concept_factors *f = &j->merged->factors;
    size_t outs = (size_t)f->outs, known = (size_t)j->known, n = 0;
    j->left = NEW_N(float, (size_t)j->come *outs + 1);
    for (int i = 0; i < j->r.n; i++)
        if (j->was[i] >= j->known)
            memcpy(j->left + n++ * outs, j->in[j->r.from[i]].card.image + (size_t)j->r.at[i] * outs, outs * sizeof(float));
    j->seen = NEW_N(float, n *(size_t)f->probes + 1);
    if (n > 0)
        probes_see(j->seen, j->left, (int)n, f->matrix, f->matrices);
    j->size = NEW_N(double, known + n);
    memcpy(j->size, f->size, known * sizeof *j->size);
    for (size_t i = 0; i < n; i++)
        for (size_t o = 0; o < outs; o++)
            j->size[known + i] += (double)j->left[i * outs + o] * (double)j->left[i * outs + o];
}

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

/* x [n, ld] has A and C as columns from a and c on: 2 <a, c> + |c S|^2 with S S' = s, and its variance where the n rows are as many
 * independent draws of it. */
static double gain(double *variance, const double *x, int ld, int a, int c, int n, int rank, const double *s)
{
    double sum = 0, squares = 0;
    for (int o = 0; o < n; o++) {
        const double *xa = x + o * ld + a, *xc = x + o * ld + c;
        double one = 0;
        for (int k = 0; k < rank; k++) {
            double row = 2 * xa[k];
            for (int l = 0; l < rank; l++)
                row += s[k * rank + l] * xc[l];
            one += row * xc[k];
        }
        sum += one;
        squares += one * one;
    }
    *variance = n > 1 ? fmax(squares - sum * sum / n, 0) * n / (n - 1) : 0;
    return sum;
}

/* g [N, 3 rank]: A of the captions, A of those held out, C; x [probes, 3 rank] what the probes see of the images times that. */
static void add_gains(job *j, const double *x, const double *const s[2])
{
    int rank = j->change.rank, at = 0;
    for (int m = 0; m < j->f->matrices; m++) {
        const concept_matrix *of = &j->f->matrix[m];
        int n = probes_of(of), ld = 3 * rank;
        double variance;
        j->moved[m] = fmax(j->moved[m] + gain(&variance, x + at * ld, ld, 0, 2 * rank, n, rank, s[0]), 0);
        j->doubt += of->rows > PROBES ? variance : 0; /* else every output was seen */
        if (s[1])
            j->moved[j->f->matrices] += gain(&variance, x + at * ld, ld, rank, 2 * rank, n, rank, s[1]);
        at += n;
    }
    j->moved[j->f->matrices] = fmax(j->moved[j->f->matrices], 0);
}

/* What the probes see of the image of a row, which stays, went, or came. */
static const float *seen_of(const job *j, int row)
{
    size_t probes = (size_t)j->merged->factors.probes;
    return row < j->known ? j->merged->factors.seen + (size_t)row * probes : j->seen + (size_t)(row - j->known) * probes;
}

/* x [probes, ld] = seen' g, g [all, ld]; some rows at a time, which as doubles stay in the cache. */
static void see_rows(const job *j, const double *g, double *x, int ld)
{
    enum { BLOCK = 32 };
    int all = j->known + j->come, probes = j->merged->factors.probes;
    double *block = NEW_N(double, BLOCK *probes);
    for (int at = 0; at < all; at += BLOCK) {
        int n = all - at < BLOCK ? all - at : BLOCK;
        for (int i = 0; i < n; i++)
            for (int o = 0; o < probes; o++)
                block[i * probes + o] = (double)seen_of(j, at + i)[o];
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, probes, ld, n, 1.0, block, probes, g + (size_t)at * (size_t)ld, ld,
                    1.0, x, ld);
    }
    free(block);
}

static void see_change(job *j)
{
    int rank = j->change.rank, all = j->known + j->come, ld = 3 * rank, probes = j->merged->factors.probes;
    double *g = NEW_N(double, (size_t)all *(size_t)ld + 1), *x = NEW_N(double, (size_t)probes *(size_t)ld + 1), *s[2];
    j->moved = mem_copy(j->merged->factors.moved, sizeof(double) * ((size_t)j->f->matrices + 1));
    j->doubt = j->merged->factors.doubt;
    s[0] = see_factor(j, &j->f->keep, g, ld);
    s[1] = j->f->n_held > 0 ? see_factor(j, &j->f->held, g + rank, ld) : NULL;
    for (int i = 0; i < all; i++)
        for (int k = 0; k < rank; k++)
            g[i * ld + 2 * rank + k] = j->change.c[i * rank + k];
    if (rank > 0) {
        see_rows(j, g, x, ld);
        add_gains(j, x, (const double *const *)s);
    }
    free(g);
    free(x);
    free(s[0]);
    free(s[1]);
}

/* The share of the drift that may be wrong: sqrt(a + da) - sqrt(a) is da / (2 sqrt(a)). */
static double doubt_of(const job *j)
{
    double sum = 0;
    for (int m = 0; m < j->f->matrices; m++)
        sum += j->moved[m];
    return sum > 0 ? sqrt(j->doubt) / (2 * sum) : 0;
}

/* ---- what is told and written ---- */

/* |E t| is at most |E| |t|, and no column t of P K' - I is longer than the longest: rounding, told from above, for the inner
 * products of all images cost more than the merge. */
static void find_residuals(const job *j, certificate *c)
{
    double *wanted = NEW_N(double, c->n), sum = 0;
    for (int i = 0; i < j->r.n; i++)
        sum += weight_of(j, i) * weight_of(j, i) * j->size[j->was[i]];
    for (int i = 0; i < j->r.n; i++) {
        certificate_concept *p = &c->concept[j->r.from[i]];
        double want = j->in[j->r.from[i]].card.row[j->r.at[i]].wanted, off = j->report.miss * sqrt(sum);
        p->rows++;
        p->before += j->size[j->was[i]];
        p->after += off * off;
        wanted[j->r.from[i]] += want * want;
    }
    for (int i = 0; i < c->n; i++) {
        wanted[i] += wanted[i] == 0;
        c->concept[i].before = sqrt(c->concept[i].before / wanted[i]);
        c->concept[i].after = sqrt(c->concept[i].after / wanted[i]);
    }
    free(wanted);
}

/* Images that are in the merged file keep their numbers; those that come get the least that are free. */
static int *number_blocks(const job *j)
{
    int *block = NEW_N(int, j->n), next = 0;
    bool *used = NEW_N(bool, j->n + 1); /* a number beyond is used by nobody's next */
    for (int i = 0; i < j->n; i++)
        if (j->source[i] >= 0) {
            block[i] = j->merged->factors.block ? j->merged->factors.block[j->source[i]] : j->source[i];
            if (block[i] <= j->n)
                used[block[i]] = true;
        }
    for (int i = 0; i < j->n; i++) {
        if (j->source[i] >= 0)
            continue;
        while (used[next])
            next++;
        block[i] = next++;
    }
    free(used);
    return block;
}

/* Takes the new images over. */
static void fill_factors(job *j, concept_factors *f)
{
    size_t n = (size_t)j->r.n;
    compose_factors(f, j->in, &j->r, j->f, j->p);
    j->p = NULL;
    f->moved = mem_copy(j->moved, sizeof(double) * ((size_t)j->f->matrices + 1));
    f->doubt = j->doubt;
    f->probes = j->merged->factors.probes;
    f->seen = NEW_N(float, n *(size_t)f->probes);
    f->size = NEW_N(double, n);
    for (size_t i = 0; i < n; i++) {
        memcpy(f->seen + i * (size_t)f->probes, seen_of(j, j->was[i]), sizeof(float) * (size_t)f->probes);
        f->size[i] = j->size[j->was[i]];
    }
    f->block = number_blocks(j);
    f->left = j->left;
    j->left = NULL;
}

static int finish(job *j, concept *out, certificate *told, err *e)
{
    const features *f = j->f;
    size_t d = (size_t)j->r.width;
    compose_told(told, j->in, j->file, j->n, &j->w, &j->r, f, &j->report);
    find_residuals(j, told);
    compose_drift(told, f, mem_copy(j->moved, sizeof(double) * ((size_t)f->matrices + 1)));
    told->drift_doubt = told->drift * doubt_of(j);
    TRY(certificate_judge(told, j->o->accept_drift, e));
    for (int i = 0; i < j->r.n; i++)
        cblas_dscal((int)d, weight_of(j, i), j->p + (size_t)i * d, 1);
    compose_fill(out, j->in, j->file, j->n, &j->w, f, compose_recipe(&j->r, f, false, 0));
    fill_factors(j, &out->factors);
    for (int i = 0; i < j->n; i++)
        out->sources[i].weight = j->o->weight ? j->o->weight[i] : 1;
    out->certificate = certificate_json(told);
    return 0;
}

int compose_again(concept *out, certificate *told, const char **why, const compose_start *start, const concept in[],
                  const char *const file[], int n, const features *f, const compose_opts *o, err *e)
{
    job j = {.in = in, .merged = start->merged, .source = start->source, .file = file, .n = n, .f = f, .o = o};
    int rc = 0, threads = openblas_get_num_threads();
    *out = (concept){0};
    *told = (certificate){0};
    *why = not_alike(&j);
    if (*why)
        return 0;
    openblas_set_num_threads(1); /* every product is done before another thread is awake */
    rc = words_choose(&j.w, in, file, n, o, e);
    if (rc == 0)
        rc = rows_gather(&j.r, in, file, n, &j.w, f, o, e);
    if (rc == 0) {
        map_rows(&j);
        *why = too_much(&j);
    }
    if (rc == 0 && !*why)
        rc = update(&j, why, e);
    if (rc == 0 && !*why) {
        weigh_change(&j);
        take_new_images(&j);
        see_change(&j);
        if (doubt_of(&j) > DOUBT_MOST)
            *why = "after so many changes its drift is known too little";
    }
    if (rc == 0 && !*why)
        rc = finish(&j, out, told, e);
    openblas_set_num_threads(threads);
    close_job(&j);
    if (rc != 0)
        certificate_free(told);
    return rc;
}
