/* From cards to factors: gather rows, solve once for all matrices, look at what came out, and say it. */
#include "merge/compose.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/compose_impl.h"
#include "merge/images.h"
#include "merge/probes.h"

enum { FEW_ROWS = 100 };

/* ---- moments: inner products of the images, the only thing figures need of them ---- */

/* The upper triangle of E_m E_m' [n, n] of one matrix, columns at .. at + width of the images. Figures are made of it, and f32 has
 * more digits than they tell. */
static float *moment_of(const float *left, int n, int64_t outs, int64_t at, int64_t width)
{
    float *moment = NEW_N(float, (size_t)n *(size_t)n);
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasNoTrans, n, (int)width, 1, left + at, (int)outs, 0, moment, n);
    return moment;
}

/* ---- the job ---- */

typedef struct {
    const concept *in;
    const char *const *file;
    int n;
    const features *f;
    const compose_opts *o;
    words w;
    rows r;
    bool few;        /* left and p are those of directions (lsq_spectrum), of which there are fewer than rows */
    int rank;        /* of left and p: the target rows, or directions */
    float *left;     /* [rank, outs] images */
    float **moment;  /* [matrices] each [rank, rank], the upper triangle */
    double *whole;   /* their sum, both triangles */
    double *p;       /* [rank, width] */
    lsq_report report;
    double ridge;
} job;

static void close_job(job *j)
{
    for (int m = 0; j->moment && m < j->f->matrices; m++)
        free(j->moment[m]);
    free(j->moment);
    free(j->left);
    free(j->whole);
    free(j->p);
    words_free(&j->w, j->in);
    rows_free(&j->r);
    lsq_report_free(&j->report);
}

/* Of the images in left. */
static void find_moments(job *j)
{
    size_t nn = (size_t)j->rank * (size_t)j->rank;
    int64_t at = 0, outs = j->in[0].card.outs;
    j->moment = NEW_N(float *, j->f->matrices);
    j->whole = NEW_N(double, nn);
    for (int m = 0; m < j->f->matrices; m++) {
        j->moment[m] = moment_of(j->left, j->rank, outs, at, j->f->matrix[m].rows);
        for (size_t i = 0; i < nn; i++)
            j->whole[i] += (double)j->moment[m][i];
        at += j->f->matrix[m].rows;
    }
    for (size_t i = 0, n = (size_t)j->rank; i < n; i++)
        for (size_t k = 0; k < i; k++)
            j->whole[i * n + k] = j->whole[k * n + i];
}

static void find_images(job *j)
{
    if (j->left)
        return;
    j->rank = j->r.n;
    j->left = images_gather(&j->r, j->in);
    find_moments(j);
}

/* Names the first few rows that depend on others, each with its file. */
static int refuse_dependent(const job *j, err *e)
{
    const lsq_report *q = &j->report;
    str list = {0};
    for (int i = 0, told = 0; i < q->n_dependent && told < 3; i++) {
        int row = q->dependent[i] - j->r.fixed;
        if (row < 0)
            continue;
        str_add(&list, "%s%s (%s)", told++ ? ", " : "", j->r.label[row], fs_base(j->file[j->r.from[row]]));
    }
    err_set(e, ERR_INPUT,
            "%d of %d target rows depend on the others (the text features have %d dimensions): %s%s; merge "
            "fewer concepts, use other class words, --relax ridge, or --relax bank",
            q->n_dependent, j->r.s, j->f->width, list.at ? list.at : "the first token",
            q->n_dependent > 3 ? ", ..." : "");
    str_free(&list);
    return ERR_INPUT;
}

double compose_norm(const double *norm, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += norm[i] * norm[i];
    return sqrt(sum);
}

/* ---- how far the base moves ---- */

/* |(W - W0) R'|^2 of matrix m = trace(M_m H), H = Z Z', Z = P F' [n, d]. */
static double *spread(const job *j, const lsq_factor *factor)
{
    int n = j->rank, d = j->r.width;
    double *z = NEW_N(double, (size_t)n *(size_t)d), *h = NEW_N(double, (size_t)n *(size_t)n);
    lsq_factor_apply(factor, j->p, n, z);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1.0, z, d, z, d, 0.0, h, n);
    free(z);
    return h;
}

/* Both are symmetric. Sums side by side, which a vector holds. */
static double moved(const float *moment, const double *h, int n)
{
    enum { SUMS = 8 };
    double sums[SUMS] = {0}, sum = 0;
    for (int i = 0; i < n; i++, moment += n, h += n) {
        int k = i + 1;
        sum += (double)moment[i] * h[i];
        for (; k + SUMS <= n; k += SUMS)
            for (int l = 0; l < SUMS; l++)
                sums[l] += 2 * (double)moment[k + l] * h[k + l];
        for (; k < n; k++)
            sum += 2 * (double)moment[k] * h[k];
    }
    for (int l = 0; l < SUMS; l++)
        sum += sums[l];
    return fmax(sum, 0);
}

static double moved_all(const double *moment, const double *h, int n)
{
    return fmax(cblas_ddot(n * n, moment, 1, h, 1), 0);
}

/* |(W - W0) R'| over all matrices */
static double whole_drift(const job *j, const lsq_factor *factor)
{
    double *h = spread(j, factor), drift = sqrt(moved_all(j->whole, h, j->rank));
    free(h);
    return drift;
}

/* ---- the solve ---- */

/* Half of a concept's update is half of its right factors: where its rows are met, they say half of it. */
static double weight_of(const job *j, int row)
{
    return j->o->weight ? j->o->weight[j->r.from[row]] : 1;
}

/* x [rows, width], each row times the weight of its concept. */
static void weigh(const job *j, double *x, int width)
{
    for (int i = 0; i < j->r.n; i++)
        if (weight_of(j, i) != 1)
            cblas_dscal(width, weight_of(j, i), x + (size_t)i * (size_t)width, 1);
}

static int solve_exactly(job *j, const lsq_problem *in, err *e)
{
    j->p = NEW_N(double, (size_t)j->r.n *(size_t)j->r.width);
    TRY(lsq_solve(j->p, &j->report, &j->f->keep, in, e));
    if (j->report.reason != LSQ_SOLVED)
        return 0;
    weigh(j, j->p, j->r.width);
    find_images(j);
    return 0;
}

/* |V'E|^2 row by row. */
static double *gains(const job *j, const double *v, int m)
{
    int n = j->rank;
    double *t, *gain = NEW_N(double, m);
    if (j->few) {
        for (int i = 0; i < m; i++)
            gain[i] = j->whole[(size_t)i * (size_t)n + (size_t)i];
        return gain;
    }
    t = NEW_N(double, (size_t)n *(size_t)m);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, m, n, 1.0, j->whole, n, v, m, 0.0, t, m);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < m; k++)
            gain[k] += t[(size_t)i * (size_t)m + (size_t)k] * v[(size_t)i * (size_t)m + (size_t)k];
    free(t);
    return gain;
}

/* Takes g [m, width]: P = V G where rows are kept, which are then those of the concepts; else G of V's combinations of them. */
static void take_right(job *j, const double *v, double *g, int m)
{
    free(j->p);
    j->p = g;
    if (j->few)
        return;
    j->p = NEW_N(double, (size_t)j->r.n *(size_t)j->r.width);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, j->r.n, j->r.width, m, 1.0, v, m, g, j->r.width, 0.0, j->p,
                j->r.width);
    free(g);
}

static int relax(job *j, const lsq_problem *in, double limit, err *e)
{
    lsq_spectrum sp;
    int rc = lsq_spectrum_open(&sp, &j->f->keep, in, e);
    if (rc == 0) {
        double *v = mem_copy(sp.v, sizeof(double) * (size_t)sp.n * (size_t)sp.m), *gain;
        double *g = NEW_N(double, (size_t)sp.m *(size_t)sp.d);
        weigh(j, v, sp.m);
        j->few = sp.m < sp.n;
        if (j->few) {
            j->rank = sp.m;
            j->left = images_combine(&j->r, j->in, v, sp.m);
            find_moments(j);
        } else {
            find_images(j);
        }
        gain = gains(j, v, sp.m);
        j->ridge = j->o->ridge > 0 ? j->o->ridge : lsq_spectrum_ridge(&sp, gain, limit);
        lsq_report_free(&j->report);
        lsq_spectrum_solve(g, &j->report, &sp, j->ridge);
        take_right(j, v, g, sp.m);
        free(v);
        free(gain);
    }
    lsq_spectrum_free(&sp);
    return rc;
}

/* Exactly where that is possible; where it is not, or moves the base too far, and relaxing is allowed, by a ridge. */
static int solve(job *j, err *e)
{
    const features *f = j->f;
    lsq_problem in = {.s = j->r.s, .fixed = j->r.fixed, .k = j->r.k};
    double limit = j->o->drift_most * compose_norm(f->keep_norm, f->matrices);
    bool solved;
    if (j->o->relax && (j->o->ridge > 0 || j->r.s > f->width)) /* so many rows always depend on each other */
        return relax(j, &in, limit, e);
    TRY(solve_exactly(j, &in, e));
    solved = j->report.reason == LSQ_SOLVED;
    if (!j->o->relax)
        return solved ? 0 : refuse_dependent(j, e);
    return solved && whole_drift(j, &f->keep) <= limit ? 0 : relax(j, &in, limit, e);
}

/* ---- what the certificate tells ---- */

void compose_drift(certificate *c, const features *f, double *moved)
{
    double sum = 0;
    for (int m = 0; m < f->matrices; m++) {
        double drift = sqrt(moved[m]) / f->keep_norm[m];
        sum += moved[m];
        if (c->worst && drift <= c->drift_worst)
            continue;
        free(c->worst);
        c->worst = mem_text(f->matrix[m].name);
        c->drift_worst = drift;
    }
    c->moved = moved;
    c->drift = sqrt(sum) / compose_norm(f->keep_norm, f->matrices);
    c->drift_held = f->n_held > 0 ? sqrt(moved[f->matrices]) / compose_norm(f->held_norm, f->matrices) : -1;
}

static void find_drift(const job *j, certificate *c)
{
    const features *f = j->f;
    double *h = spread(j, &f->keep), *all = NEW_N(double, f->matrices + 1);
    for (int m = 0; m < f->matrices; m++)
        all[m] = moved(j->moment[m], h, j->rank);
    free(h);
    if (f->n_held > 0) {
        h = spread(j, &f->held);
        all[f->matrices] = moved_all(j->whole, h, j->rank);
        free(h);
    }
    compose_drift(c, f, all);
}

/* t [n, rank] = K P': how much of each image in left a target row gets. */
static double *shares(const job *j)
{
    int n = j->r.n, d = j->r.width;
    double *t = NEW_N(double, (size_t)n *(size_t)j->rank);
    const double *k = j->r.k + (size_t)j->r.fixed * (size_t)d;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, j->rank, d, 1.0, k, d, j->p, d, 0.0, t, j->rank);
    return t;
}

/* off[i] = x' M x, M the moments of all, x row i of the shares t without the row's own. */
static void moments_miss(const job *j, double *off, double *size, double *t)
{
    int n = j->r.n;
    double *mx = NEW_N(double, (size_t)n *(size_t)n);
    for (int i = 0; i < n; i++)
        t[(size_t)i * (size_t)n + (size_t)i] -= weight_of(j, i);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1.0, t, n, j->whole, n, 0.0, mx, n);
    for (size_t i = 0, row = (size_t)n; i < row; i++) {
        off[i] = fmax(cblas_ddot(n, mx + i * row, 1, t + i * row, 1), 0);
        size[i] = j->whole[i * row + i];
    }
    free(mx);
}

/* off[i]: |.|^2 of what row i is missed by; size[i] of its image. Where the images in left are the rows' own, by their moments,
 * which tell what rounding left; else by the images. */
static void find_misses(const job *j, double *off, double *size)
{
    double *t = shares(j);
    if (j->few)
        images_miss(off, size, &j->r, j->in, j->o->weight, j->left, t, j->rank);
    else
        moments_miss(j, off, size, t);
    free(t);
}

static void find_residuals(const job *j, certificate *c)
{
    double *off = NEW_N(double, j->r.n), *size = NEW_N(double, j->r.n), *wanted = NEW_N(double, c->n);
    find_misses(j, off, size);
    for (int i = 0; i < j->r.n; i++) {
        certificate_concept *p = &c->concept[j->r.from[i]];
        double want = j->in[j->r.from[i]].card.row[j->r.at[i]].wanted;
        p->rows++;
        p->before += size[i];
        p->after += off[i];
        wanted[j->r.from[i]] += want * want;
    }
    for (int i = 0; i < c->n; i++) {
        wanted[i] += wanted[i] == 0; /* a base of zeroes: misses are told as they are */
        c->concept[i].before = sqrt(c->concept[i].before / wanted[i]);
        c->concept[i].after = sqrt(c->concept[i].after / wanted[i]);
    }
    free(off);
    free(size);
    free(wanted);
}

static void tell_rows(certificate *c, const char *const file[], const rows *r, const lsq_report *report)
{
    str text = {0};
    int row = report->nearest - r->fixed;
    c->shared = NEW_N(char *, r->n_twice + 1);
    for (; c->n_shared < r->n_twice; c->n_shared++) {
        const struct twice *t = &r->twice[c->n_shared];
        str_add(&text, "%s of %s, kept as %s has it", t->label, fs_base(file[t->from]), fs_base(file[t->as]));
        c->shared[c->n_shared] = text.at;
        text = (str){0};
    }
    if (report->own > 0 && row >= 0) {
        str_add(&text, "%s (%s)", r->label[row], fs_base(file[r->from[row]]));
        c->nearest = text.at;
        c->own = report->own;
    }
}

void compose_told(certificate *c, const concept in[], const char *const file[], int n, const words *w, const rows *r,
                  const features *f, const lsq_report *report)
{
    *c = (certificate){.n = n, .concept = NEW_N(certificate_concept, n)};
    for (int i = 0; i < n; i++) {
        c->concept[i].name = mem_text(fs_base(file[i]));
        c->concept[i].words = words_told(w, in, i);
        c->concept[i].shared = r->shared[i];
    }
    c->reason = report->reason;
    c->bos_fixed = r->fixed > 0;
    c->used = report->rank;
    c->available = r->width;
    c->condition = report->condition;
    c->caption_condition = f->keep.condition;
    c->miss = report->miss;
    c->kkt = report->kkt;
    c->captions = f->n_keep;
    c->held = f->n_held;
    tell_rows(c, file, r, report);
}

static void certify(const job *j, certificate *c)
{
    compose_told(c, j->in, j->file, j->n, &j->w, &j->r, j->f, &j->report);
    c->ridge = j->ridge;
    find_residuals(j, c);
    find_drift(j, c);
}

/* ---- the merged concept ---- */

concept_matrix *compose_matrices(const features *f, int64_t *outs)
{
    concept_matrix *m = NEW_N(concept_matrix, f->matrices);
    *outs = 0;
    for (int i = 0; i < f->matrices; i++) {
        m[i] = (concept_matrix){mem_text(f->matrix[i].name), f->matrix[i].rows};
        *outs += m[i].rows;
    }
    return m;
}

void compose_factors(concept_factors *out, const concept in[], const rows *r, const features *f, double *p)
{
    size_t n = (size_t)r->n;
    *out = (concept_factors){.rank = r->n, .width = r->width, .matrices = f->matrices};
    out->matrix = compose_matrices(f, &out->outs);
    out->label = NEW_N(char *, n);
    out->key = NEW_N(char *, n);
    out->source = NEW_N(int, n);
    out->wanted = NEW_N(double, n);
    out->k = NEW_N(float, n *(size_t)out->width);
    out->bos = mem_copy(in[0].card.bos, (size_t)out->width * sizeof *out->bos);
    out->right = p;
    for (size_t i = 0; i < n; i++) {
        const concept_card *card = &in[r->from[i]].card;
        out->label[i] = mem_text(r->label[i]);
        out->key[i] = mem_text(r->key[i]);
        out->source[i] = r->from[i];
        out->wanted[i] = card->row[r->at[i]].wanted;
        memcpy(out->k + i * (size_t)out->width, card->k + (size_t)r->at[i] * (size_t)out->width,
               (size_t)out->width * sizeof *out->k);
    }
}

/* Of directions, which are nobody's: the file answers for all concepts together and cannot be taken apart again. */
static void fill_directions(job *j, concept_factors *f)
{
    *f = (concept_factors){.rank = j->rank, .width = j->r.width, .matrices = j->f->matrices};
    f->matrix = compose_matrices(j->f, &f->outs);
    f->label = NEW_N(char *, f->rank);
    for (int i = 0; i < f->rank; i++) {
        char text[40];
        snprintf(text, sizeof text, "direction %d of all rows", i + 1);
        f->label[i] = mem_text(text);
    }
    f->right = j->p;
    f->left = j->left;
    j->p = NULL;
    j->left = NULL;
}

/* Takes the images over. */
static void fill_factors(job *j, concept_factors *f, const double *all_moved)
{
    size_t n = (size_t)j->r.n;
    if (j->few) {
        fill_directions(j, f);
        return;
    }
    compose_factors(f, j->in, &j->r, j->f, j->p);
    j->p = NULL;
    f->moved = mem_copy(all_moved, sizeof(double) * ((size_t)f->matrices + 1));
    f->left = j->left;
    j->left = NULL;
    f->probes = probes_count(f->matrix, f->matrices);
    f->seen = NEW_N(float, n *(size_t)f->probes);
    f->size = NEW_N(double, n);
    probes_see(f->seen, f->left, f->rank, f->matrix, f->matrices);
    for (size_t i = 0; i < n; i++)
        f->size[i] = j->whole[i * n + i];
}

char *compose_recipe(const rows *r, const features *f, bool relaxed, double ridge)
{
    json_t *o =
        json_pack("{s:s s:s s:s s:b s:f s:s}", "program", "conceptfarm " CFARM_VERSION, "operation", "merge", "bos",
                  r->fixed ? "fixed" : "free", "relaxed", relaxed, "ridge", ridge, "captions", f->captions);
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

void compose_fill(concept *out, const concept in[], const char *const file[], int n, const words *w, const features *f,
                  char *recipe)
{
    *out = (concept){.kind = CONCEPT_MERGED, .width = f->width, .recipe = recipe};
    out->method = mem_text(in[0].method);
    out->base = mem_text(f->base);
    out->base_path = mem_text(in[0].base_path);
    out->n_sources = n;
    out->sources = NEW_N(concept_source, n);
    for (int i = 0; i < n; i++) {
        out->sources[i] = (concept_source){mem_text(fs_base(file[i])), mem_text(in[i].digest), words_told(w, in, i), 1};
        for (int t = 0; t < in[i].n_tokens; t++) {
            const concept_token *k = &in[i].tokens[t];
            concept_add_token(out, w->word[i][t], k->class_word, k->initial_id, k->row);
        }
    }
}

/* A few rows are done before other threads are awake, and those then spin for nothing. Returns what to go back to. */
static int choose_threads(int n)
{
    int before = openblas_get_num_threads();
    if (n < FEW_ROWS)
        openblas_set_num_threads(1);
    return before;
}

static int solve_in_threads(job *j, err *e)
{
    int threads = choose_threads(j->r.n), rc;
    rc = solve(j, e);
    openblas_set_num_threads(threads);
    return rc;
}

int compose(concept *out, certificate *told, const concept in[], const char *const file[], int n, const features *f,
            const compose_opts *o, err *e)
{
    job j = {.in = in, .file = file, .n = n, .f = f, .o = o};
    int rc = words_choose(&j.w, in, file, n, o, e);
    *told = (certificate){0};
    if (rc == 0)
        rc = rows_gather(&j.r, in, file, n, &j.w, f, o, e);
    if (rc == 0)
        rc = solve_in_threads(&j, e);
    if (rc == 0) {
        certify(&j, told);
        rc = certificate_judge(told, o->accept_drift, e);
    }
    if (rc == 0) {
        compose_fill(out, in, file, n, &j.w, f, compose_recipe(&j.r, f, o->relax, j.ridge));
        fill_factors(&j, &out->factors, told->moved);
        for (int i = 0; i < n; i++)
            out->sources[i].weight = o->weight ? o->weight[i] : 1;
        out->certificate = certificate_json(told);
    }
    close_job(&j);
    if (rc != 0)
        certificate_free(told);
    return rc;
}
