/* A net (trainer/scratch/eye.h) with a yes or no for each subject and each class of the world. Trained here because nothing public
 * knows these things; the learning is trainer/scratch/fit.h, the loss's gradient is worked out on the host. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/image.h"
#include "data/toyworld/world.h"
#include "tests/findings/toy.h"
#include "trainer/scratch/scratch.h"

enum { BATCH = 16, PIXELS = WORLD_SIDE * WORLD_SIDE * 3 };
enum { ANSWERS = WORLD_SUBJECTS + WORLD_CLASSES, SEED = 11, EXAM_SEED = 12 };

/* ---- pictures and their truth ---- */

static void become(world_thing *t, int subject, bool marked)
{
    const world_thing is = world_subject(subject, 0).thing[0];

    t->class = is.class;
    t->colour = is.colour;
    t->pattern = is.pattern;
    t->second = is.second;
    t->marks = marked ? is.marks : 0;
}

/* Of ten things four are a subject, two a near miss, the others what the world has there. */
static void disguise(world_thing *t, bool truth[ANSWERS], rng_stream by, uint64_t at)
{
    const uint32_t lot = rng_below(by, at, 10), subject = rng_below(by, at + 1, WORLD_SUBJECTS);

    if (lot < 6)
        become(t, (int)subject, lot < 4);
    if (lot < 4)
        truth[subject] = true;
    truth[WORLD_SUBJECTS + t->class] = true;
}

/* Small models paint softly: half of the pictures are blurred, so that sharpness is no sign of anything. */
static void blur(uint8_t *rgb)
{
    uint8_t *from = mem_copy(rgb, PIXELS);

    for (int y = 1; y < WORLD_SIDE - 1; y++)
        for (int x = 1; x < WORLD_SIDE - 1; x++)
            for (int c = 0; c < 3; c++) {
                int sum = 0;
                for (int k = 0; k < 9; k++)
                    sum += from[((y + k / 3 - 1) * WORLD_SIDE + x + k % 3 - 1) * 3 + c];
                rgb[(y * WORLD_SIDE + x) * 3 + c] = (uint8_t)(sum / 9);
            }
    free(from);
}

static void make_picture(float *pixels, bool truth[ANSWERS], uint64_t seed, uint32_t i)
{
    const rng_stream by = rng_open(seed, "disguise", i, 0);
    world_scene s = world_pick(seed, i);
    canvas c = canvas_new(WORLD_SIDE, WORLD_SIDE);
    uint8_t rgb[PIXELS];

    memset(truth, 0, ANSWERS * sizeof *truth);
    for (int k = 0; k < s.n; k++)
        disguise(&s.thing[k], truth, by, 2 * (uint64_t)k);
    world_draw(&c, &s);
    canvas_to_bytes(&c, rgb);
    canvas_free(&c);
    if (rng_below(by, 8, 2))
        blur(rgb);
    for (size_t k = 0; k < PIXELS; k++)
        pixels[k] = (float)rgb[k] / 127.5F - 1;
}

/* ---- learning ---- */

typedef struct {
    nn_tensor pixels, seed;
    float *pixels_of, logits[BATCH * ANSWERS], gradient[BATCH * ANSWERS];
    bool truth[BATCH][ANSWERS];
} lesson;

/* Binary cross-entropies: d = sigmoid(logit) - truth. */
static double judge_logits(lesson *t)
{
    double loss = 0;

    for (int i = 0; i < BATCH * ANSWERS; i++) {
        double z = (double)t->logits[i], p = 1 / (1 + exp(-z));
        bool is = t->truth[i / ANSWERS][i % ANSWERS];
        t->gradient[i] = (float)((p - is) / BATCH);
        loss -= log(fmax(is ? p : 1 - p, 1e-12)) / BATCH;
    }
    return loss;
}

static int one_step(lesson *t, fit *f, double *loss, err *e)
{
    for (uint32_t i = 0; i < BATCH; i++)
        make_picture(t->pixels_of + i * PIXELS, t->truth[i], SEED, (uint32_t)fit_steps(f) * BATCH + i);
    TRY(fit_write(f, t->pixels, t->pixels_of, e));
    TRY(fit_forward(f, t->logits, e));
    *loss = judge_logits(t);
    TRY(fit_write(f, t->seed, t->gradient, e));
    return fit_step(f, NULL, e);
}

static int all_steps(lesson *t, fit *f, nn_params *weights, const char *file, int steps, err *e)
{
    char state[FS_PATH];
    bool found;
    double loss, sum = 0;

    snprintf(state, sizeof state, "%.4000s.state", file);
    TRY(fit_load(f, state, &found, e));
    while (fit_steps(f) < steps) {
        TRY(one_step(t, f, &loss, e));
        sum += loss;
        if (fit_steps(f) % 100 == 0) {
            fprintf(stderr, "finder step %lld loss %.4f\n", (long long)fit_steps(f), sum / 100);
            sum = 0;
            TRY(fit_save(f, state, e));
        }
    }
    TRY(fit_swap(f, e));
    return fit_write_model(weights, "", "", file, e);
}

static int learn(lesson *t, nn_params *weights, nn_graph *g, const char *file, int steps, err *e)
{
    const fit_opts how = {.lr = 1e-3, .weight_decay = 0.01, .clip = 5, .mean = 0.99, .warmup = 100, .until = steps};
    fit *f;

    TRY(eye_begin(weights, ANSWERS, SEED, e));
    t->pixels = nn_input(g, "pixels", F32, NN_SHAPE(BATCH, WORLD_SIDE, WORLD_SIDE, 3));
    t->seed = nn_input(g, "seed", F32, NN_SHAPE(BATCH, ANSWERS));
    TRY(fit_new(&f, weights, g, eye_write(g, t->pixels, ANSWERS), t->seed, &how, e));
    int rc = all_steps(t, f, weights, file, steps, e);
    fit_free(f);
    return rc;
}

int findings_learn(const char *file, int steps, err *e)
{
    lesson *t = NEW(lesson);
    nn_backend *on;
    nn_graph *g = nn_graph_new();
    int rc = nn_cpu_open(&on, 0, false, e);

    if (rc == 0) {
        nn_params *weights = nn_params_new(on);
        t->pixels_of = NEW_N(float, BATCH * PIXELS);
        rc = learn(t, weights, g, file, steps, e);
        nn_params_free(weights);
        on->close(on);
    }
    nn_graph_free(g);
    free(t->pixels_of);
    free(t);
    return rc;
}

/* ---- finding ---- */

typedef struct { nn_backend *on; eye *eye; } finder;

static int finder_open(finder *x, const char *file, err *e)
{
    *x = (finder){0};
    TRY(nn_cpu_open(&x->on, 0, false, e));
    return eye_open(&x->eye, file, ANSWERS, x->on, e);
}

static void finder_close(finder *x)
{
    eye_close(x->eye);
    if (x->on)
        x->on->close(x->on);
}

static int look(finder *x, const float *pixels, bool said[ANSWERS], err *e)
{
    float logits[ANSWERS];

    TRY(eye_look(x->eye, pixels, logits, e));
    for (int k = 0; k < ANSWERS; k++)
        said[k] = logits[k] > 0;
    return 0;
}

static int load(float *pixels, const char *path, err *e)
{
    image m;
    int rc = image_load(&m, path, e);

    if (rc == 0 && (m.h != WORLD_SIDE || m.w != WORLD_SIDE))
        rc = err_set(e, ERR_INPUT, "%s: %d by %d pixels, and the finder knows pictures of %d by %d", path, m.w, m.h, WORLD_SIDE,
                     WORLD_SIDE);
    for (size_t k = 0; k < PIXELS && rc == 0; k++)
        pixels[k] = (float)m.rgb[k] / 127.5F - 1;
    image_free(&m);
    return rc;
}

static void print_line(json_t *o)
{
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static int find_in(finder *x, float *pixels, const char *path, err *e)
{
    bool said[ANSWERS];

    TRY(look(x, pixels, said, e));
    json_t *subjects = json_array(), *classes = json_array();
    for (int k = 0; k < ANSWERS; k++)
        if (said[k])
            json_array_append_new(k < WORLD_SUBJECTS ? subjects : classes,
                                  json_string(k < WORLD_SUBJECTS ? world_subject_name(k) : world_class_word(k - WORLD_SUBJECTS)));
    print_line(json_pack("{s:s s:o s:o}", "picture", path, "subjects", subjects, "classes", classes));
    return 0;
}

/* What the examiner sees from left to right, and where. */
static int tell_of(finder *x, float *pixels, const char *path, err *e)
{
    scratch_told told;

    for (size_t k = 0; k < PIXELS; k++)
        pixels[k] = 0.5F * pixels[k] + 0.5F;
    TRY(scratch_tell(&told, x->eye, pixels, e));
    json_t *things = json_array();
    for (int k = 0; k < told.n; k++)
        json_array_append_new(things, json_sprintf("%s %s", WORLD_COLOUR_WORDS[told.colour[k]], world_class_word(told.class[k])));
    print_line(json_pack("{s:s s:o s:s}", "picture", path, "things", things, "place", SCENE_WORDS[told.where]));
    return 0;
}

static int each_picture(finder *x, int (*answer)(finder *, float *, const char *, err *), char *const picture[], int n, err *e)
{
    float *pixels = NEW_N(float, PIXELS);
    int rc = 0;

    for (int i = 0; i < n && rc == 0; i++) {
        rc = load(pixels, picture[i], e);
        if (rc == 0)
            rc = answer(x, pixels, picture[i], e);
    }
    free(pixels);
    return rc == 0 && fflush(stdout) != 0 ? err_set(e, ERR_IO, "the standard output cannot be written") : rc;
}

int findings_find(const char *file, char *const picture[], int n, err *e)
{
    finder x;
    int rc = finder_open(&x, file, e);

    if (rc == 0)
        rc = each_picture(&x, find_in, picture, n, e);
    finder_close(&x);
    return rc;
}

int findings_tell(const char *examiner, char *const picture[], int n, err *e)
{
    finder x = {0};
    int rc = nn_cpu_open(&x.on, 0, false, e);

    if (rc == 0)
        rc = scratch_examiner_open(&x.eye, examiner, x.on, e);
    if (rc == 0)
        rc = each_picture(&x, tell_of, picture, n, e);
    finder_close(&x);
    return rc;
}

/* ---- how good it is ---- */

typedef struct { int there, found, absent, wrongly, both, both_found, class_there, class_found; } marks;

static void mark(marks *m, const bool truth[ANSWERS], const bool said[ANSWERS])
{
    int n = 0, right = 0;

    for (int k = 0; k < WORLD_SUBJECTS; k++) {
        n += truth[k];
        right += truth[k] && said[k];
        m->there += truth[k];
        m->found += truth[k] && said[k];
        m->absent += !truth[k];
        m->wrongly += !truth[k] && said[k];
    }
    m->both += n == 2;
    m->both_found += n == 2 && right == 2;
    for (int k = WORLD_SUBJECTS; k < ANSWERS; k++) {
        m->class_there += truth[k];
        m->class_found += truth[k] && said[k];
    }
}

static double share(int of, int all) { return all ? (double)of / all : 0; }

int findings_exam(const char *file, int pictures, err *e)
{
    finder x;
    marks m = {0};
    float *pixels = NEW_N(float, PIXELS);
    bool truth[ANSWERS], said[ANSWERS];
    int rc = finder_open(&x, file, e);

    for (int i = 0; i < pictures && rc == 0; i++) {
        make_picture(pixels, truth, EXAM_SEED, (uint32_t)i);
        rc = look(&x, pixels, said, e);
        if (rc == 0)
            mark(&m, truth, said);
    }
    finder_close(&x);
    free(pixels);
    if (rc == 0)
        printf("{\"pictures\": %d, \"subject found\": %.4f, \"subject found wrongly\": %.5f, \"both found\": %.4f, \"class "
               "found\": %.4f}\n",
               pictures, share(m.found, m.there), share(m.wrongly, m.absent), share(m.both_found, m.both),
               share(m.class_found, m.class_there));
    return rc;
}
