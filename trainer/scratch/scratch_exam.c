/* An examiner: a small convolutional net that tells what a picture of the world shows, learnt from the painter's own truth;
 * and an exam: pictures for captions that no training saw, told by the examiner. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "trainer/sample.h"
#include "trainer/scratch/scratch.h"

enum { BATCH = 16, PIXELS = WORLD_SIDE * WORLD_SIDE * 3 };
static const float GRAIN = 0.05F; /* most noise on a spoilt picture */

/* Questions, each with its answers in a row of logits. A lone thing stands on both sides. */
enum { HOW_MANY, WHERE, LEFT_CLASS, LEFT_COLOUR, RIGHT_CLASS, RIGHT_COLOUR, QUESTIONS };
static const int ANSWERS[QUESTIONS] = {2, SCENES, WORLD_CLASSES, WORLD_COLOURS, WORLD_CLASSES, WORLD_COLOURS};
enum { LOGITS = 2 + SCENES + 2 * (WORLD_CLASSES + WORLD_COLOURS) };

typedef struct {
    const scratch *how;
    nn_params *weights;
    uint8_t *pictures;
    nn_tensor pixels, seed;
    float *pixels_of, logits[BATCH * LOGITS], gradient[BATCH * LOGITS];
    int truth[BATCH][QUESTIONS];
} stage;

static void truth_of(int truth[QUESTIONS], const world_scene *s)
{
    const world_thing *left = &s->thing[0], *right = &s->thing[s->n - 1];

    truth[HOW_MANY] = s->n - 1;
    truth[WHERE] = (int)s->where;
    truth[LEFT_CLASS] = left->class;
    truth[LEFT_COLOUR] = left->colour;
    truth[RIGHT_CLASS] = right->class;
    truth[RIGHT_COLOUR] = right->colour;
}

/* ---- learning ---- */

/* The sum of a row's cross-entropies; its gradient over the batch. */
static double cross_entropy(float *d, const float *logits, const int truth[QUESTIONS])
{
    double loss = 0;

    for (int q = 0; q < QUESTIONS; d += ANSWERS[q], logits += ANSWERS[q], q++) {
        double most = -INFINITY, sum = 0;
        for (int k = 0; k < ANSWERS[q]; k++)
            most = fmax(most, (double)logits[k]);
        for (int k = 0; k < ANSWERS[q]; k++)
            sum += exp((double)logits[k] - most);
        for (int k = 0; k < ANSWERS[q]; k++)
            d[k] = (float)((exp((double)logits[k] - most) / sum - (k == truth[q])) / BATCH);
        loss -= (double)logits[truth[q]] - most - log(sum);
    }
    return loss;
}

/* Half the pictures are blurred and made grainy, as an autoencoder does: the examiner shall tell what they show all the same. */
static void spoil(float *x, rng_stream s)
{
    float *was = mem_copy(x, PIXELS * sizeof *x);
    const float grain = GRAIN * rng_uniform(s, 0);

    for (int y = 0; y < WORLD_SIDE; y++)
        for (int c = 0; c < 3 * WORLD_SIDE; c++) {
            const int up = y > 0 ? -3 * WORLD_SIDE : 0, down = y + 1 < WORLD_SIDE ? 3 * WORLD_SIDE : 0;
            const int left = c > 2 ? -3 : 0, right = c + 3 < 3 * WORLD_SIDE ? 3 : 0;
            const float *at = was + y * 3 * WORLD_SIDE + c;
            x[at - was] = 0.25F * (at[up + left] + at[up + right] + at[down + left] + at[down + right]);
        }
    rng_normal_fill(rng_open(SCRATCH_SEED, "grain", (uint32_t)rng_below(s, 1, 1U << 30), 0), was, PIXELS);
    for (int k = 0; k < PIXELS; k++)
        x[k] += grain * was[k];
    free(was);
}

static int one_step(void *arg, fit *f, float *loss, err *e)
{
    stage *t = arg;
    double sum = 0;

    for (uint32_t i = 0; i < BATCH; i++) {
        const rng_stream dice = rng_open(SCRATCH_SEED, "exam", (uint32_t)fit_steps(f), i);
        const uint32_t picture = rng_below(dice, 0, (uint32_t)t->how->pictures);
        const world_scene s = world_pick(SCRATCH_SEED, picture);
        truth_of(t->truth[i], &s);
        for (size_t k = 0; k < PIXELS; k++)
            t->pixels_of[i * PIXELS + k] = (float)t->pictures[(size_t)picture * PIXELS + k] / 127.5F - 1;
        if (rng_below(dice, 1, 2) == 0)
            spoil(t->pixels_of + i * PIXELS, rng_open(SCRATCH_SEED, "spoil", (uint32_t)fit_steps(f), i));
    }
    TRY(fit_write(f, t->pixels, t->pixels_of, e));
    TRY(fit_forward(f, t->logits, e));
    for (int i = 0; i < BATCH; i++)
        sum += cross_entropy(t->gradient + i * LOGITS, t->logits + i * LOGITS, t->truth[i]) / BATCH;
    *loss = (float)sum;
    TRY(fit_write(f, t->seed, t->gradient, e));
    return fit_step(f, loss, e);
}

static int path_of(char out[FS_PATH], const scratch *s, err *e)
{
    return fs_join(out, s->state, "examiner.safetensors", e);
}

static int write_model(void *arg, err *e)
{
    stage *t = arg;
    char path[FS_PATH];

    TRY(path_of(path, t->how, e));
    return fit_write_model(t->weights, "", "", path, e);
}

static int learn(stage *t, nn_graph *g, err *e)
{
    const fit_opts how = {.lr = 1e-3, .weight_decay = 0.01, .clip = 5, .mean = 0.99, .warmup = 100, .until = t->how->until};
    fit *f;

    TRY(eye_begin(t->weights, LOGITS, SCRATCH_SEED, e));
    t->pixels = nn_input(g, "pixels", F32, NN_SHAPE(BATCH, WORLD_SIDE, WORLD_SIDE, 3));
    t->seed = nn_input(g, "seed", F32, NN_SHAPE(BATCH, LOGITS));
    TRY(fit_new(&f, t->weights, g, eye_write(g, t->pixels, LOGITS), t->seed, &how, e));
    int rc = scratch_run(t->how, "examiner", f, one_step, write_model, t, e);
    fit_free(f);
    return rc;
}

int scratch_examiner(const scratch *s, err *e)
{
    stage *t = NEW(stage);
    nn_graph *g = nn_graph_new();

    t->how = s;
    t->weights = nn_params_new(s->on);
    t->pictures = scratch_pictures(s);
    t->pixels_of = NEW_N(float, BATCH * PIXELS);
    int rc = learn(t, g, e);
    nn_params_free(t->weights);
    nn_graph_free(g);
    free(t->pictures);
    free(t->pixels_of);
    free(t);
    return rc;
}

/* ---- asking it ---- */

/* pixels [side,side,3] in 0..1 -> what it says to each question. */
static int ask(eye *x, const float *pixels, int said[QUESTIONS], err *e)
{
    float *in = NEW_N(float, PIXELS), logits[LOGITS], *at = logits;

    for (size_t k = 0; k < PIXELS; k++)
        in[k] = 2 * pixels[k] - 1;
    int rc = eye_look(x, in, logits, e);
    free(in);
    TRY(rc);
    for (int q = 0; q < QUESTIONS; at += ANSWERS[q++]) {
        said[q] = 0;
        for (int k = 1; k < ANSWERS[q]; k++)
            if (at[k] > at[said[q]])
                said[q] = k;
    }
    return 0;
}

int scratch_examiner_open(eye **out, const char *file, nn_backend *on, err *e)
{
    return eye_open(out, file, LOGITS, on, e);
}

int scratch_tell(scratch_told *out, eye *examiner, const float *pixels, err *e)
{
    int said[QUESTIONS];

    TRY(ask(examiner, pixels, said, e));
    *out = (scratch_told){.n = said[HOW_MANY] + 1, .where = (scene)said[WHERE], .class = {said[LEFT_CLASS], said[RIGHT_CLASS]},
                          .colour = {said[LEFT_COLOUR], said[RIGHT_COLOUR]}};
    return 0;
}

/* ---- the exam ---- */

typedef struct { int ones, class, colour, twos, both, relation, all, where; } marks;

static void mark(marks *m, const world_scene *s, const int said[QUESTIONS])
{
    int right[QUESTIONS];
    bool ok[QUESTIONS];

    truth_of(right, s);
    for (int q = 0; q < QUESTIONS; q++)
        ok[q] = said[q] == right[q];
    m->all++;
    m->where += ok[WHERE];
    if (s->n == 1) {
        m->ones++;
        m->class += ok[LEFT_CLASS];
        m->colour += ok[LEFT_COLOUR];
        return;
    }
    m->twos++;
    m->relation += ok[LEFT_CLASS] && ok[RIGHT_CLASS];
    m->both += (ok[LEFT_CLASS] && ok[RIGHT_CLASS]) || (said[LEFT_CLASS] == right[RIGHT_CLASS] && said[RIGHT_CLASS] == right[LEFT_CLASS]);
}

static void tell(const char *what, const marks *m)
{
    printf("{\"judged\": \"%s\", \"pictures\": %d, \"class\": %.4f, \"colour\": %.4f, \"background\": %.4f, \"both_things\": %.4f, "
           "\"relation\": %.4f}\n", what, m->all, (double)m->class / fmax(1, m->ones), (double)m->colour / fmax(1, m->ones),
           (double)m->where / fmax(1, m->all), (double)m->both / fmax(1, m->twos), (double)m->relation / fmax(1, m->twos));
}

/* Everything said, and nothing else in the picture. */
static void say_all(str *out, const world_scene *s)
{
    str_add(out, "a photo of a %s %s", WORLD_COLOUR_WORDS[s->thing[0].colour], world_class_word(s->thing[0].class));
    if (s->n == 2)
        str_add(out, " left of a %s %s", WORLD_COLOUR_WORDS[s->thing[1].colour], world_class_word(s->thing[1].class));
    str_add(out, " %s", SCENE_WORDS[s->where]);
}

/* x [side,side,3] in 0..1 into the latents' space and back. */
static int through(sd *model, float *x, err *e)
{
    float latents[WORLD_SIDE * WORLD_SIDE / 64 * 4], logvar[WORLD_SIDE * WORLD_SIDE / 64 * 4];

    for (size_t k = 0; k < PIXELS; k++)
        x[k] = 2 * x[k] - 1;
    TRY(sd_vae_encode(model, x, 1, WORLD_SIDE, WORLD_SIDE, latents, logvar, e));
    TRY(sd_vae_decode(model, latents, 1, WORLD_SIDE / 8, WORLD_SIDE / 8, x, e));
    for (size_t k = 0; k < PIXELS; k++)
        x[k] = fminf(fmaxf(0.5F * x[k] + 0.5F, 0), 1);
    return 0;
}

/* model NULL: as the painter leaves them; else what its autoencoder makes of them, which no sample can surpass. */
static int drawn(eye *x, sd *model, int n, err *e)
{
    uint8_t *bytes = NEW_N(uint8_t, PIXELS);
    float *pixels = NEW_N(float, PIXELS);
    int said[QUESTIONS], rc = 0;
    marks m = {0};

    for (int i = 0; i < n && rc == 0; i++) {
        const world_scene s = world_pick(SCRATCH_HELD_OUT, (uint32_t)i);
        scratch_picture(bytes, SCRATCH_HELD_OUT, (uint32_t)i);
        for (size_t k = 0; k < PIXELS; k++)
            pixels[k] = (float)bytes[k] / 255;
        if (model)
            rc = through(model, pixels, e);
        if (rc == 0)
            rc = ask(x, pixels, said, e);
        mark(&m, &s, said);
    }
    tell(model ? "the same through the autoencoder" : "pictures of the world that the examiner never saw", &m);
    free(bytes);
    free(pixels);
    return rc;
}

static int sampled(eye *x, sd *model, const tokenizer *words, const sample_opts *o, int n, err *e)
{
    float *pixels = NEW_N(float, PIXELS);
    int said[QUESTIONS], rc = 0;
    marks m = {0};

    for (int i = 0; i < n && rc == 0; i++) {
        const world_scene s = world_pick(SCRATCH_HELD_OUT, (uint32_t)i);
        str prompt = {0};
        say_all(&prompt, &s);
        rc = sample_picture(model, words, o, prompt.at, "", (uint32_t)i, pixels, e);
        str_free(&prompt);
        if (rc == 0)
            rc = ask(x, pixels, said, e);
        mark(&m, &s, said);
    }
    tell("pictures of the model", &m);
    free(pixels);
    return rc;
}

static int examine(eye **x, const scratch *s, sd **model, tokenizer **words, err *e)
{
    const sample_opts o = {.sampler = "ddim", .steps = s->steps, .width = WORLD_SIDE, .height = WORLD_SIDE, .guidance = s->guidance,
                           .seed = SCRATCH_SEED};
    char path[FS_PATH];

    TRY(path_of(path, s, e));
    TRY(scratch_examiner_open(x, path, s->on, e));
    TRY(drawn(*x, NULL, s->prompts, e));
    TRY(sd_open(model, s->model, s->on, e));
    TRY(drawn(*x, *model, s->prompts, e));
    TRY(scratch_tokenizer(words, s, e));
    return sampled(*x, *model, *words, &o, s->prompts, e);
}

int scratch_exam(const scratch *s, err *e)
{
    eye *x = NULL;
    sd *model = NULL;
    tokenizer *words = NULL;
    int rc = examine(&x, s, &model, &words, e);

    eye_close(x);
    sd_close(model);
    tokenizer_close(words);
    return rc;
}
