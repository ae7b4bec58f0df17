/* How many numbers a method trains on Stable Diffusion 1.x, against the published counts. Graphs are written, no weight is
 * made. Counts: diffusers' LoRA of rank 4; SVDiff's tables (322,856 in the UNet, 75,341 in the text encoder; of the public
 * program, with one shift a norm, 222,805). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "trainer/nn/node.h"
#include "trainer/train.h"

static const char unet_config[] =
    "{\"sample_size\": 64, \"in_channels\": 4, \"out_channels\": 4, \"layers_per_block\": 2, \"cross_attention_dim\": 768,"
    " \"attention_head_dim\": 8, \"norm_num_groups\": 32, \"block_out_channels\": [320, 640, 1280, 1280],"
    " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\", \"DownBlock2D\"],"
    " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\"]}";
static const char text_config[] =
    "{\"hidden_size\": 768, \"num_hidden_layers\": 12, \"num_attention_heads\": 12, \"intermediate_size\": 3072,"
    " \"vocab_size\": 49408, \"max_position_embeddings\": 77, \"hidden_act\": \"quick_gelu\"}";

typedef struct {
    const char *method;
    train_cfg how;
    int64_t unet, text;
} row;

static const row rows[] = {
    {"dreambooth", {.train_text_encoder = true}, 859520964, 123060480},
    {"dreambooth", {.train_text_encoder = false}, 859520964, 0},
    {"fine-tune-all", {0}, 859520964, 0},
    {"custom-diffusion", {.freeze = FREEZE_KV}, 19169280, 0},
    {"custom-diffusion", {.freeze = FREEZE_CROSSATTN}, 43962560, 0},
    {"lora", {.train_text_encoder = true, .lora_rank = 4, .lora_alpha = CFG_WORD}, 797184, 294912},
    {"lora", {.lora_rank = 32, .lora_alpha = CFG_WORD}, 6377472, 0},
    {"svdiff", {.train_text_encoder = true}, 140416 + 82280 + 100160, 55296 + 768 + 77 + 19200},
    {"svdiff", {.train_text_encoder = true, .svdiff_norms = SVDIFF_SCALAR}, 140416 + 82280 + 109, 55296 + 768 + 77 + 25},
    {"svdiff", {.svdiff_norms = SVDIFF_OFF}, 140416 + 82280, 0},
};

static json_t *parsed(const char *text)
{
    json_t *o = json_loads(text, 0, NULL);

    assert_non_null(o);
    return o;
}

static nn_graph *written(const row *r, bool text)
{
    nn_graph *g = nn_graph_new();
    nn_adapter adapter = method_find(r->method)->adapter;
    json_t *config = parsed(text ? text_config : unet_config);
    err e = {0};

    adapter.arg = &r->how;
    nn_adapt(g, &adapter);
    nn_enter(g, text ? "text_encoder" : "unet");
    if (text) {
        clip_shape c;
        assert_int_equal(clip_shape_from(&c, config, &e), 0);
        clip_write(g, &c, nn_input(g, "ids", I32, NN_SHAPE(1, TOKENS)), 0, NULL);
    } else {
        unet_shape u;
        assert_int_equal(unet_shape_from(&u, config, &e), 0);
        unet_write(g, &u, nn_input(g, "x", F32, NN_SHAPE(1, 8, 8, 4)), nn_input(g, "t", F32, NN_SHAPE(1)),
                   nn_input(g, "text", F32, NN_SHAPE(1, TOKENS, 768)), false);
    }
    nn_leave(g);
    if (nn_check(g, &e) != 0)
        fail_msg("%s", e.text);
    json_decref(config);
    return g;
}

static int64_t trained(const row *r, bool text)
{
    const method *by = method_find(r->method);
    nn_graph *g = written(r, text);
    int64_t sum = 0;

    for (int i = 0; i < nn_node_count(g); i++) {
        nn_tensor t = nn_node_at(g, i);
        if (t->op == &nn_op_param && by->moves(t->name, &r->how))
            sum += nn_count(t->shape);
    }
    nn_graph_free(g);
    return sum;
}

static void as_many_numbers_move_as_published(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(trained(&rows[i], false), rows[i].unet);
        assert_int_equal(trained(&rows[i], true), rows[i].text);
    }
}

/* What auto becomes: the papers' and the ports' numbers, and what grows with the batch. */
static void recipes_are_the_published_ones(void **state)
{
    static const struct { const char *settings; double lr; int steps, batch; } recipe[] = {
        {"method: custom-diffusion", 8e-5, 250, 8},
        {"method: custom-diffusion, compat: diffusers", 1e-5, 250, 4},
        {"method: custom-diffusion, lr: 1e-5, scale_lr: yes", 8e-5, 250, 8},
        {"method: custom-diffusion, lr: 1e-5, scale_lr: yes, accumulate: 2", 16e-5, 250, 8},
        {"method: textual-inversion", 1e-2, 6100, 2},
        {"method: textual-inversion, batch: 8", 4e-2, 6100, 8},
        {"method: textual-inversion, lr: 5e-3, batch: 8", 5e-3, 6100, 8},
        {"method: textual-inversion, compat: diffusers", 2e-3, 3000, 4},
        {"method: textual-inversion, compat: diffusers, batch: 1, accumulate: 4", 2e-3, 3000, 1},
        {"method: dreambooth", 5e-6, 1000, 1},
        {"method: dreambooth, train_text_encoder: yes", 2e-6, 1000, 1},
        {"method: dreambooth, regularisation: {generate: 200}", 5e-6, 1000, 2},
        {"method: fine-tune-all", 8e-6, 500, 8},
        {"method: lora", 1e-4, 500, 1},
        {"method: svdiff", 1e-3, 500, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof recipe / sizeof *recipe; i++) {
        cfg_doc *d = cfg_doc_new();
        const cfg_node *tree;
        concept_cfg c;
        str yaml = {0};
        err e = {0};
        str_add(&yaml, "{class: dog, images: x, %s}", recipe[i].settings);
        if (cfg_yaml_parse(&tree, d, yaml.at, yaml.n, "settings", &e) != 0 || concept_cfg_fill(&c, NULL, d, tree, &e) != 0)
            fail_msg("%s", e.text);
        assert_true(fabs(c.how.lr - recipe[i].lr) < 1e-12);
        assert_int_equal(c.how.steps, recipe[i].steps);
        assert_int_equal(data_batch(&c.data), recipe[i].batch);
        cfg_doc_free(d);
        str_free(&yaml);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_many_numbers_move_as_published),
                                       cmocka_unit_test(recipes_are_the_published_ones)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
