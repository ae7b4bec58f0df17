/* What unmix makes of a cross-attention is what plain loops make of its formula, and only pictures of two subjects count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "cluster/base/rng.h"
#include "trainer/nn/plan.h"
#include "trainer/unmix.h"

enum { N = 3, H = 3, W = 5, WORDS = 7, HEADS = 2, WIDTH = 4, C = HEADS * WIDTH };

/* p[which] of a place: what its attention gives to the words that are marked, in all. */
static double given(const float *q, const float *k, const float *words, int which)
{
    double sum = 0, marked = 0;

    for (int t = 0; t < WORDS; t++) {
        double dot = 0;
        for (int i = 0; i < WIDTH; i++)
            dot += (double)q[i] * (double)k[t * C + i];
        double e = exp(dot / sqrt(WIDTH));
        sum += e;
        marked += e * (double)words[2 * t + which];
    }
    return marked / sum;
}

static double plain(const float *q, const float *k, const float *words)
{
    double half[2] = {0};

    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int head = 0; head < HEADS; head++) {
                int which = x < W / 2;
                double p = given(q + (y * W + x) * C + head * WIDTH, k + head * WIDTH, words, which);
                half[which] += p * p;
            }
    return half[0] / (H * (W - W / 2) * HEADS) + half[1] / (H * (W / 2) * HEADS);
}

static void each_word_is_held_against_the_others_half(void **state)
{
    float q[N][H * W * C], k[N][WORDS * C], words[N][WORDS * 2] = {{0}}, got[N];
    nn_graph *g = nn_graph_new();
    nn_backend *b;
    nn_params *p;
    nn_plan *plan;
    unmix u;
    err e = {0};

    (void)state;
    rng_normal_fill(rng_open(1, "q", 0, 0), q[0], N * H * W * C);
    rng_normal_fill(rng_open(1, "k", 0, 0), k[0], N * WORDS * C);
    words[0][2 * 3] = words[0][2 * 4] = 0.7f; /* two pieces of the left one's, one of the right one's */
    words[0][2 * 6 + 1] = 0.7f;
    words[2][2 * 1 + 1] = 1;                  /* the second sample shows one subject */
    assert_int_equal(nn_cpu_open(&b, 1, false, &e), 0);
    p = nn_params_new(b);
    nn_tensor at_q = nn_input(g, "q", F32, NN_SHAPE(N, H * W, C)), at_k = nn_input(g, "k", F32, NN_SHAPE(N, WORDS, C));
    nn_tensor at_words = nn_input(g, "words", F32, NN_SHAPE(N, WORDS, 2));
    unmix_watch(&u, g, at_words);
    nn_cross(g, at_q, at_k, HEADS, H, W);
    nn_cross(g, at_q, at_k, HEADS, H, W);     /* twice the same: the mean is that of one */
    nn_cross(g, nn_reshape(g, at_q, NN_SHAPE(N, H * W, C)), at_k, HEADS, H * W, 1); /* no halves: not counted */
    nn_tensor loss = unmix_loss(&u, g);
    if (nn_plan_new(&plan, g, p, &loss, 1, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(nn_write(plan, at_q, q, sizeof q, &e), 0);
    assert_int_equal(nn_write(plan, at_k, k, sizeof k, &e), 0);
    assert_int_equal(nn_write(plan, at_words, words, sizeof words, &e), 0);
    assert_int_equal(nn_run(plan, &e), 0);
    assert_int_equal(nn_read(plan, loss, got, sizeof got, &e), 0);
    for (int i = 0; i < N; i++) {
        double want = plain(q[i], k[i], words[i]);
        assert_true(fabs((double)got[i] - want) <= 1e-5 * want);
    }
    assert_true(got[1] == 0 && got[0] > 0 && got[2] > 0);
    nn_plan_free(plan);
    nn_params_free(p);
    nn_graph_free(g);
    b->close(b);
}

static void where_no_map_has_halves_it_is_a_mistake(void **state)
{
    nn_graph *g = nn_graph_new();
    unmix u;
    err e = {0};

    (void)state;
    unmix_watch(&u, g, nn_input(g, "words", F32, NN_SHAPE(1, WORDS, 2)));
    unmix_loss(&u, g);
    assert_int_equal(nn_check(g, &e), ERR_SHAPE);
    nn_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_word_is_held_against_the_others_half),
        cmocka_unit_test(where_no_map_has_halves_it_is_a_mistake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
