/* From cards to factors: gather rows, solve once for all matrices, look at what came out, and say it. */
#include "merge/compose.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/compose_impl.h"
#include "merge/probes.h"

enum { FEW_ROWS = 100 };

/* ---- moments: inner products of the images, the only thing figures need of them ---- */

/* Images of all rows behind each other, [n, outs]: f32 as the cards have them, so nothing is lost. */
static float *gather_images(const rows *r, const concept in[], const features *f)
{
    int64_t outs = 0;
    float *left;
    for (int m = 0; m < f->matrices; m++)
        outs += f->matrix[m].rows;
    left = NEW_N(float, r->n *outs);
    mem_whole(left, sizeof *left * (size_t)r->n * (size_t)outs);
    for (int i = 0; i < r->n; i++)
        memcpy(left + i * outs, in[r->from[i]].card.image + r->at[i] * outs, sizeof *left * (size_t)outs);
    return left;
}

/* E_m E_m' [n, n] of one matrix, columns at .. at + width of the images. Both triangles. Figures are made of it, and f32 has
 * more digits than they tell. */
static float *moment_of(const float *left, int n, int64_t outs, int64_t at, int64_t width)
{
    float *moment = NEW_N(float, (size_t)n *(size_t)n);
    cblas_ssyrk(CblasRowMajor, CblasUpper, CblasNoTrans, n, (int)width, 1, left + at, (int)outs, 0, moment, n);
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t j = 0; j < i; j++)
            moment[i * (size_t)n + j] = moment[j * (size_t)n + i];
    return moment;
}

/* x' M y */
static double form(const double *m, const double *x, const double *y, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            sum += x[i] * m[(size_t)i * (size_t)n + (size_t)j] * y[j];
    return sum;
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
    float *left;     /* [n, outs] images */
    float **moment;  /* [matrices] each [n, n] */
    double *whole;   /* their sum */
    double *p;       /* [rows, width] */
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

static void find_moments(job *j)
{
    size_t nn = (size_t)j->r.n * (size_t)j->r.n;
    int64_t at = 0, outs = j->in[0].card.outs;
    j->left = gather_images(&j->r, j->in, j->f);
    j->moment = NEW_N(float *, j->f->matrices);
    j->whole = NEW_N(double, nn);
    for (int m = 0; m < j->f->matrices; m++) {
        j->moment[m] = moment_of(j->left, j->r.n, outs, at, j->f->matrix[m].rows);
        for (size_t i = 0; i < nn; i++)
            j->whole[i] += (double)j->moment[m][i];
        at += j->f->matrix[m].rows;
    }
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
    int n = j->r.n, d = j->r.width;
    double *z = NEW_N(double, (size_t)n *(size_t)d), *h = NEW_N(double, (size_t)n *(size_t)n);
    lsq_factor_apply(factor, j->p, n, z);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1.0, z, d, z, d, 0.0, h, n);
    free(z);
    return h;
}

static double moved(const float *moment, const double *h, int n)
{
    double sum = 0;
    for (size_t i = 0; i < (size_t)n * (size_t)n; i++)
        sum += (double)moment[i] * h[i];
    return fmax(sum, 0);
}

static double moved_all(const double *moment, const double *h, int n)
{
    return fmax(cblas_ddot(n * n, moment, 1, h, 1), 0);
}

/* |(W - W0) R'| over all matrices */
static double whole_drift(const job *j, const lsq_factor *factor)
{
    double *h = spread(j, factor), drift = sqrt(moved_all(j->whole, h, j->r.n));
    free(h);
    return drift;
}

/* ---- the solve ---- */

static int try_ridge(job *j, double ridge, err *e)
{
    lsq_problem in = {.s = j->r.s, .fixed = j->r.fixed, .k = j->r.k, .ridge = ridge};
    lsq_report_free(&j->report);
    j->ridge = ridge;
    return lsq_solve(j->p, &j->report, &j->f->keep, &in, e);
}

/* Exactly where that is possible; where it is not, or moves the base too far, and relaxing is allowed, by a ridge. */
static int solve(job *j, err *e)
{
    const features *f = j->f;
    lsq_problem in = {.s = j->r.s, .fixed = j->r.fixed, .k = j->r.k};
    double limit = j->o->drift_most * compose_norm(f->keep_norm, f->matrices), ridge = j->o->relax ? j->o->ridge : 0;
    j->p = NEW_N(double, (size_t)j->r.n *(size_t)j->r.width);
    TRY(try_ridge(j, ridge, e));
    if (ridge > 0 || (j->report.reason == LSQ_SOLVED && (!j->o->relax || whole_drift(j, &f->keep) <= limit)))
        return 0;
    if (!j->o->relax)
        return refuse_dependent(j, e);
    TRY(lsq_ridge_for(&ridge, &f->keep, &in, j->whole, limit, e));
    return try_ridge(j, ridge, e);
}

/* Half of a concept's update is half of its right factors: where its rows are met, they say half of it. */
static double weight_of(const job *j, int row)
{
    return j->o->weight ? j->o->weight[j->r.from[row]] : 1;
}

static void weigh(job *j)
{
    for (int i = 0; i < j->r.n; i++)
        if (weight_of(j, i) != 1)
            cblas_dscal(j->r.width, weight_of(j, i), j->p + (size_t)i * (size_t)j->r.width, 1);
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
        all[m] = moved(j->moment[m], h, j->r.n);
    free(h);
    if (f->n_held > 0) {
        h = spread(j, &f->held);
        all[f->matrices] = moved_all(j->whole, h, j->r.n);
        free(h);
    }
    compose_drift(c, f, all);
}

/* miss [n, n] = K P' - I: row i says of which images, how much, target row i gets beyond its own share. */
static double *misses(const job *j)
{
    int n = j->r.n, d = j->r.width;
    double *t = NEW_N(double, (size_t)n *(size_t)n);
    const double *k = j->r.k + (size_t)j->r.fixed * (size_t)d;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, 1.0, k, d, j->p, d, 0.0, t, n);
    for (size_t i = 0; i < (size_t)n; i++)
        t[i * (size_t)n + i] -= weight_of(j, (int)i);
    return t;
}

static void find_residuals(const job *j, certificate *c)
{
    int n = j->r.n;
    double *miss = misses(j), *wanted = NEW_N(double, c->n);
    for (int i = 0; i < n; i++) {
        certificate_concept *p = &c->concept[j->r.from[i]];
        const double *t = miss + (size_t)i * (size_t)n;
        double want = j->in[j->r.from[i]].card.row[j->r.at[i]].wanted;
        p->rows++;
        p->before += j->whole[(size_t)i * (size_t)n + (size_t)i];
        p->after += fmax(form(j->whole, t, t, n), 0);
        wanted[j->r.from[i]] += want * want;
    }
    for (int i = 0; i < c->n; i++) {
        wanted[i] += wanted[i] == 0; /* a base of zeroes: misses are told as they are */
        c->concept[i].before = sqrt(c->concept[i].before / wanted[i]);
        c->concept[i].after = sqrt(c->concept[i].after / wanted[i]);
    }
    free(miss);
    free(wanted);
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

void compose_factors(concept_factors *out, const concept in[], const rows *r, const features *f, const double *p)
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
    out->right = mem_copy(p, sizeof(double) * n * (size_t)out->width);
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

/* Takes the images over. */
static void fill_factors(job *j, concept_factors *f, const double *all_moved)
{
    size_t n = (size_t)j->r.n;
    compose_factors(f, j->in, &j->r, j->f, j->p);
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
    find_moments(j);
    rc = solve(j, e);
    if (rc == 0)
        weigh(j);
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
