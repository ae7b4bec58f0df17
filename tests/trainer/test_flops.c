/* Law: the arithmetic counted from a graph is the algorithm's, to the operation. The figures are those of an independent
 * count over the published configs (no padding, nothing computed twice, a gradient only where one is needed). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "data/tokenizer.h"
#include "trainer/model/sd.h"
#include "trainer/nn/flops.h"

typedef struct {
    const char *shape;
    int side;                                    /* pixels */
    double forward, rows, weights;               /* the UNet's, Custom Diffusion */
    double encode, decode, text, text_rows;
} row;

static const row table[] = {
    {"sd15", 512, 803273441280, 857502842880, 2952069120, 1116658466816, 2514518933504, 13298503680, 13517070336},
    {"sd15", 768, 2148121722880, 2493927751680, 2952069120, 2609118314496, 5754304364544, 13298503680, 13517070336},
    {"sd21", 512, 804257464320, 858486865920, 3936092160, 1116658466816, 2514518933504, 45127233536, 45685792768},
    {"sd21", 768, 2149105745920, 2494911774720, 3936092160, 2609118314496, 5754304364544, 45127233536, 45685792768},
};

static nn_backend *on;
static sd *model;

static void open_model(const char *shape)
{
    err e = {0};
    float row_of[1024] = {0};

    assert_int_equal(nn_cpu_open(&on, 1, false, &e), 0);
    assert_int_equal(sd_open_named(&model, shape, on, &e), 0);
    assert_int_equal(sd_text_rows_set(model, row_of, 1, &e), 0);
}

static void close_model(void)
{
    sd_close(model);
    on->close(on);
}

static void is(const row *r, const char *what, double got, double want)
{
    if (got != want)
        fail_msg("%s at %d, %s: %.0f where %.0f is needed", r->shape, r->side, what, got, want);
}

/* K, V and the modifier's row are taught; the embedding needs no product. */
static void count_step(const row *r)
{
    nn_graph *g = nn_graph_new();
    nn_tensor wrt[64];
    int n = 0;
    err e = {0};
    nn_tensor text = sd_text_write(g, model, nn_input(g, "ids", I32, NN_SHAPE(1, TOKENS)), NULL);
    nn_tensor said = sd_unet_write(g, model, nn_input(g, "x", F32, NN_SHAPE(1, r->side / 8, r->side / 8, 4)),
                                   nn_input(g, "t", F32, NN_SHAPE(1)), text, true);

    assert_int_equal(nn_check(g, &e), 0);
    wrt[n++] = nn_param_find(g, SD_MODIFIER);
    for (; sd_kv_name(model, (size_t)n - 1); n++)
        wrt[n] = nn_param_find(g, sd_kv_name(model, (size_t)n - 1));
    nn_flops unet = nn_flops_of(g, said, wrt, n, "unet"), words = nn_flops_of(g, said, wrt, n, "text_encoder");
    is(r, "forward", unet.forward, r->forward);
    is(r, "gradient of rows", unet.rows, r->rows);
    is(r, "gradient of weights", unet.weights, r->weights);
    is(r, "text", words.forward, r->text);
    is(r, "gradient of text", words.rows, r->text_rows);
    nn_graph_free(g);
}

static void count_pictures(const row *r)
{
    nn_graph *g = nn_graph_new();
    const vae_shape *v = sd_vae_shape(model);

    nn_tensor in = vae_encode_write(g, v, nn_input(g, "x", F32, NN_SHAPE(1, r->side, r->side, 3)));
    is(r, "encoding", nn_flops_of(g, in, NULL, 0, NULL).forward, r->encode);
    nn_tensor out = vae_decode_write(g, v, nn_input(g, "z", F32, NN_SHAPE(1, r->side / 8, r->side / 8, 4)));
    is(r, "decoding", nn_flops_of(g, out, NULL, 0, NULL).forward, r->decode);
    nn_graph_free(g);
}

static void counts_are_the_algorithms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        open_model(table[i].shape);
        count_step(&table[i]);
        count_pictures(&table[i]);
        close_model();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_the_algorithms),
    };

    return cmocka_run_group_tests_name("flops", tests, NULL, NULL);
}
