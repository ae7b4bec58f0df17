/* Figures from features: each picture is decoded once for each model that looks at it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/image_list.h"
#include "trainer/eval/eval.h"
#include "trainer/eval/judge.h"

typedef struct {
    evaluation *ev;
    const eval_cfg *set;
    nn_backend *backend;
    logger *log;
    const char *what; /* the model that measures now */
} measuring;

/* ---- features ---- */

static int look(float **out, judge *j, const char *const path[], int64_t n, logger *log, err *e)
{
    int64_t width = judge_width(j);
    void *rows;

    TRY(mem_big(&rows, (size_t)(n * width) * sizeof(float), "the pictures' features", e));
    for (int64_t i = 0; i < n; i++) {
        int rc = judge_file(j, path[i], (float *)rows + i * width, e);
        if (rc != 0) {
            free(rows);
            return rc;
        }
        log_progress(log, "%s: %lld of %lld pictures", judge_what(j), (long long)i + 1, (long long)n);
    }
    *out = rows;
    return 0;
}

static int look_at_ours(float **out, const measuring *m, judge *j, err *e)
{
    const char **path = NEW_N(const char *, m->ev->n);

    for (int i = 0; i < m->ev->n; i++)
        path[i] = m->ev->at[i].path;
    int rc = look(out, j, path, m->ev->n, m->log, e);
    free(path);
    return rc;
}

static int look_at_folder(float **out, int64_t *n, const measuring *m, judge *j, const char *folder, err *e)
{
    image_list l = {0};
    int rc = image_list_add(&l, ".", folder, e);
    const char **path = NEW_N(const char *, l.n + 1);

    for (size_t i = 0; i < l.n; i++)
        path[i] = l.at[i].path;
    *n = (int64_t)l.n;
    if (rc == 0)
        rc = look(out, j, path, *n, m->log, e);
    free(path);
    image_list_free(&l);
    return rc;
}

/* ---- figures ---- */

static eval_figure *add_figure(evaluation *ev, const char *measure, const char *scaling, const char *against)
{
    ev->figure = mem_grow(ev->figure, (size_t)ev->figures + 1, sizeof *ev->figure);
    ev->figure[ev->figures] =
        (eval_figure){.measure = measure, .scaling = mem_text(scaling), .against = mem_text(against)};
    return &ev->figure[ev->figures++];
}

/* Mean and deviation of cosines under one scaling. */
static void add_scaled(measuring *m, const char *measure, score_scale s, const char *against, const double *cosine)
{
    eval_figure *f = add_figure(m->ev, measure, score_scale_name(s), against);
    double sum = 0, squares = 0;
    int n = m->ev->n;

    for (int i = 0; i < n; i++)
        sum += score_scaled(s, cosine[i]);
    for (int i = 0; i < n; i++)
        squares += pow(score_scaled(s, cosine[i]) - sum / n, 2);
    f->value = sum / n;
    f->deviation = n > 1 ? sqrt(squares / (n - 1)) : 0;
    f->count = n;
    f->what = m->what;
}

/* Against each folder of the subject's own pictures; the first one's cosines stay with the pictures. */
static int against_real(measuring *m, judge *j, const float *ours, const char *measure, size_t keep, err *e)
{
    int64_t width = judge_width(j), n;
    double *mean = NEW_N(double, width), *cosine = NEW_N(double, m->ev->n);
    float *theirs;
    int rc = 0;

    for (size_t r = 0; r < m->set->real.n && rc == 0; r++) {
        rc = look_at_folder(&theirs, &n, m, j, m->set->real.at[r], e);
        if (rc != 0)
            break;
        score_normalise(theirs, n, width);
        score_mean_row(mean, theirs, n, width);
        free(theirs);
        for (int i = 0; i < m->ev->n; i++) {
            cosine[i] = score_with_mean(ours + i * width, mean, width);
            if (r == 0)
                *(double *)((char *)&m->ev->at[i] + keep) = cosine[i];
        }
        add_scaled(m, measure, SCALE_COSINE, m->set->real.at[r], cosine);
    }
    free(mean);
    free(cosine);
    return rc;
}

/* A text is read once for all pictures that follow each other with it. */
static int against_texts(measuring *m, judge *j, const float *ours, err *e)
{
    int64_t width = judge_width(j);
    double *cosine = NEW_N(double, m->ev->n);
    float *text = NEW_N(float, width);
    const char *read = NULL;
    int rc = 0;

    for (int i = 0; i < m->ev->n && rc == 0; i++) {
        eval_picture *p = &m->ev->at[i];
        if (!read || strcmp(read, p->meant) != 0) {
            rc = judge_text(j, p->meant, text, e);
            score_normalise(text, 1, width);
            read = p->meant;
        }
        p->text = cosine[i] = score_cosine(ours + i * width, text, width);
    }
    for (int s = 0; s < SCORE_SCALES && rc == 0; s++)
        add_scaled(m, "clip-text", (score_scale)s, "", cosine);
    free(cosine);
    free(text);
    return rc;
}

static bool all_have_prompts(const evaluation *ev)
{
    for (int i = 0; i < ev->n; i++)
        if (!ev->at[i].meant)
            return false;
    return true;
}

static int by_clip(measuring *m, judge *j, const float *ours, err *e)
{
    if (!all_have_prompts(m->ev) && m->set->real.n == 0)
        return err_set(e, ERR_INPUT,
                       "--clip has nothing to compare with: the pictures have no prompts (prompts.json, or X.txt "
                       "beside "
                       "X.png), and no --real DIR is given");
    if (all_have_prompts(m->ev))
        TRY(against_texts(m, j, ours, e));
    return against_real(m, j, ours, "clip-image", offsetof(eval_picture, image), e);
}

static int by_dino(measuring *m, judge *j, const float *ours, err *e)
{
    return against_real(m, j, ours, "dino", offsetof(eval_picture, dino), e);
}

static int by_inception(measuring *m, judge *j, const float *ours, err *e)
{
    kid_opts o = {.subsets = m->set->kid_subsets, .size = m->set->kid_size, .seed = (uint64_t)m->set->seed};
    float *theirs;
    int64_t n;
    kid k;

    TRY(look_at_folder(&theirs, &n, m, j, m->set->against, e));
    int rc = score_kid(&k, ours, m->ev->n, theirs, n, judge_width(j), &o, e);
    free(theirs);
    for (int i = 0; i < 2 && rc == 0; i++) {
        eval_figure *f = add_figure(m->ev, "kid", i == 0 ? "as it is" : "1000 x", m->set->against);
        f->value = k.mean * (i == 0 ? 1 : 1000);
        f->deviation = k.deviation * (i == 0 ? 1 : 1000);
        f->count = m->ev->n;
        f->what = m->what;
    }
    return rc;
}

/* ---- models, one after another: at most one is in memory ---- */

typedef struct {
    const char *path;
    int (*open)(judge **out, const char *path, nn_backend *b, err *e);
    int (*measure)(measuring *m, judge *j, const float *ours, err *e);
    bool cosines;
} measure;

static int measure_by(measuring *m, const measure *by, char **what, err *e)
{
    double start = clock_s();
    float *ours = NULL;
    judge *j;

    TRY(by->open(&j, by->path, m->backend, e));
    m->what = *what = mem_text(judge_what(j));
    int rc = look_at_ours(&ours, m, j, e);
    if (rc == 0 && by->cosines)
        score_normalise(ours, m->ev->n, judge_width(j));
    if (rc == 0)
        rc = by->measure(m, j, ours, e);
    free(ours);
    judge_close(j);
    if (rc == 0)
        log_event(m->log, "measured", TEXT("by", m->what), INT("pictures", m->ev->n),
                  REAL("seconds", clock_s() - start));
    return rc;
}

int eval_measure(evaluation *ev, const eval_cfg *set, logger *log, err *e)
{
    const measure by[] = {
        {set->clip, judge_open_clip, by_clip, true},
        {set->dino, judge_open_dino, by_dino, true},
        {set->inception, judge_open_inception, by_inception, false},
    };
    measuring m = {.ev = ev, .set = set, .log = log};

    TRY(nn_cpu_open(&m.backend, 0, false, e));
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++)
        if (by[i].path[0])
            rc = measure_by(&m, &by[i], &ev->models[i], e);
    m.backend->close(m.backend);
    return rc;
}
