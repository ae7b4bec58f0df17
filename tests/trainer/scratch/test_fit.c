/* The laws of training from nothing: a loss falls; a stopped training goes on to the same bytes; a gradient that the caller
 * works out moves the weights as the graph's own does; the running mean is kept beside them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/rng.h"
#include "data/safetensors.h"
#include "trainer/scratch/fit.h"

enum { N = 8, IN = 5, OUT = 3 };
static char folder[] = "/tmp/cf_fit_XXXXXX";

/* y = W x + b from x [N,IN], against targets that some other W and b made. */
typedef struct {
    nn_backend *on;
    nn_params *weights;
    nn_graph *g;
    nn_tensor x, target, y, seed;
    fit *f;
    float x_of[N * IN], target_of[N * OUT];
} lesson;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static void open_lesson(lesson *l, bool seeded)
{
    const fit_opts how = {.lr = 0.05, .mean = 0.9, .warmup = 5};
    float w[OUT * IN], b[OUT];
    nn_tensor out;
    err e = {0};

    rng_normal_fill(rng_open(1, "x", 0, 0), l->x_of, N * IN);
    rng_normal_fill(rng_open(1, "w", 0, 0), w, OUT * IN);
    rng_normal_fill(rng_open(1, "b", 0, 0), b, OUT);
    for (int i = 0; i < N * OUT; i++) {
        l->target_of[i] = b[i % OUT] + 1;
        for (int k = 0; k < IN; k++)
            l->target_of[i] += l->x_of[i / OUT * IN + k] * w[(i % OUT) * IN + k] * 2;
    }
    ok(nn_cpu_open(&l->on, 1, false, &e), &e);
    l->weights = nn_params_new(l->on);
    ok(nn_params_set(l->weights, "w", NN_SHAPE(OUT, IN), w, &e), &e);
    ok(nn_params_set(l->weights, "b", NN_SHAPE(OUT), b, &e), &e);
    l->g = nn_graph_new();
    l->x = nn_input(l->g, "x", F32, NN_SHAPE(N, IN));
    l->y = nn_linear(l->g, l->x, nn_param(l->g, "w", NN_SHAPE(OUT, IN)), nn_param(l->g, "b", NN_SHAPE(OUT)));
    if (seeded) {
        out = l->y;
        l->seed = nn_input(l->g, "seed", F32, NN_SHAPE(N, OUT));
    } else {
        l->target = nn_input(l->g, "target", F32, NN_SHAPE(N, OUT));
        out = nn_sum_to(l->g, nn_squared_error(l->g, nn_reshape(l->g, l->y, NN_SHAPE(1, N, OUT, 1)),
                                               nn_reshape(l->g, l->target, NN_SHAPE(1, N, OUT, 1)), NULL), NN_SHAPE(1));
        l->seed = NULL;
    }
    ok(fit_new(&l->f, l->weights, l->g, out, l->seed, &how, &e), &e);
    ok(fit_write(l->f, l->x, l->x_of, &e), &e);
    if (!seeded)
        ok(fit_write(l->f, l->target, l->target_of, &e), &e);
}

static void close_lesson(lesson *l)
{
    fit_free(l->f);
    nn_graph_free(l->g);
    nn_params_free(l->weights);
    l->on->close(l->on);
}

static float learn(lesson *l, int steps)
{
    float loss = NAN, y[N * OUT], d[N * OUT];
    err e = {0};

    for (int i = 0; i < steps; i++) {
        if (l->seed) {
            ok(fit_forward(l->f, y, &e), &e);
            loss = 0;
            for (int k = 0; k < N * OUT; k++) {
                loss += (y[k] - l->target_of[k]) * (y[k] - l->target_of[k]);
                d[k] = 2 * (y[k] - l->target_of[k]);
            }
            ok(fit_write(l->f, l->seed, d, &e), &e);
        }
        ok(fit_step(l->f, &loss, &e), &e);
    }
    return loss;
}

static void weights_of(const lesson *l, float w[OUT * IN])
{
    err e = {0};

    ok(nn_params_get(l->weights, "w", w, OUT * IN, &e), &e);
}

static const char *path(const char *name)
{
    static char out[FS_PATH];

    assert_int_equal(fs_join(out, folder, name, NULL), 0);
    return out;
}

static void a_loss_falls(void **state)
{
    lesson l;

    (void)state;
    open_lesson(&l, false);
    const float first = learn(&l, 1);
    assert_true(learn(&l, 300) < 1e-3F * first);
    assert_int_equal(fit_steps(l.f), 301);
    close_lesson(&l);
}

static void a_stopped_training_goes_on_to_the_same_bytes(void **state)
{
    float whole[OUT * IN], parts[OUT * IN];
    bool found;
    lesson l;
    err e = {0};

    (void)state;
    open_lesson(&l, false);
    learn(&l, 20);
    weights_of(&l, whole);
    close_lesson(&l);
    open_lesson(&l, false);
    learn(&l, 12);
    ok(fit_save(l.f, path("state"), &e), &e);
    close_lesson(&l);
    open_lesson(&l, false);
    ok(fit_load(l.f, path("state"), &found, &e), &e);
    assert_true(found);
    learn(&l, 8);
    weights_of(&l, parts);
    assert_memory_equal(whole, parts, sizeof whole);
    close_lesson(&l);
}

static void a_gradient_of_the_caller_s_is_as_good(void **state)
{
    float own[OUT * IN], given[OUT * IN];
    lesson l;

    (void)state;
    for (int k = 0; k < 2; k++) {
        open_lesson(&l, k == 1);
        learn(&l, 10);
        weights_of(&l, k ? given : own);
        close_lesson(&l);
    }
    for (int i = 0; i < OUT * IN; i++)
        assert_true(fabsf(own[i] - given[i]) < 1e-5F);
}

static void the_mean_lies_between_and_is_what_is_published(void **state)
{
    float now[OUT * IN], mean[OUT * IN], again[OUT * IN], half[OUT * IN];
    safetensors *file;
    lesson l;
    err e = {0};

    (void)state;
    open_lesson(&l, false);
    learn(&l, 30);
    weights_of(&l, now);
    ok(fit_swap(l.f, &e), &e);
    weights_of(&l, mean);
    ok(fit_write_model(l.weights, "", "", path("model.safetensors"), &e), &e);
    ok(fit_swap(l.f, &e), &e);
    weights_of(&l, again);
    assert_memory_equal(now, again, sizeof now);
    assert_memory_not_equal(now, mean, sizeof now);
    ok(st_open(&file, path("model.safetensors"), &e), &e);
    ok(st_read_f32(file, "w", half, OUT * IN, &e), &e);
    for (int i = 0; i < OUT * IN; i++)
        assert_true(fabsf(half[i] - mean[i]) <= 1e-3F * fabsf(mean[i]));
    st_close(file);
    close_lesson(&l);
}

static void another_training_s_state_is_refused(void **state)
{
    bool found;
    lesson l;
    err e = {0};

    (void)state;
    open_lesson(&l, false);
    ok(fit_load(l.f, path("never"), &found, &e), &e);
    assert_false(found);
    ok(fs_write(path("other"), "cfarmfit but short", 18, &e), &e);
    assert_int_equal(fit_load(l.f, path("other"), &found, &e), ERR_INPUT);
    assert_non_null(strstr(e.text, "not the state of this training"));
    close_lesson(&l);
}

static int start(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    return fs_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loss_falls),
        cmocka_unit_test(a_stopped_training_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_gradient_of_the_caller_s_is_as_good),
        cmocka_unit_test(the_mean_lies_between_and_is_what_is_published),
        cmocka_unit_test(another_training_s_state_is_refused),
    };
    return cmocka_run_group_tests_name("fit", tests, start, end);
}
