/* The text encoder: features, and gradients of all it has, under a given cotangent. */
#include <stdlib.h>

#include "tests/golden/probe.h"

static int set_modifiers(golden *g, sd *m, err *e)
{
    st_tensor shape;
    float *rows;

    if (!golden_has(g, "text/modifier_rows"))
        return 0;
    TRY(golden_f32(g, "text/modifier_rows", &rows, &shape, e));
    int rc = sd_text_rows_set(m, rows, (int)shape.d[0], e);
    free(rows);
    return rc;
}

static int run(golden *g, sd *m, probe *p, err *e)
{
    nn_graph *graph = probe_graph(p);
    nn_tensor seed = NULL;
    int32_t *ids;
    float *cotangent;
    st_tensor s;

    TRY(set_modifiers(g, m, e));
    TRY(golden_i32(g, "text/input_ids", &ids, &s, e));
    nn_tensor words = probe_input(p, nn_input(graph, "ids", I32, NN_SHAPE(s.d[0], s.d[1])), ids);
    nn_tensor last = sd_text_write(graph, m, words, NULL);

    probe_keep(p, "text/last_hidden_state", last);
    probe_debug(p, "text/debug/layer_", "text_encoder.text_model.encoder.layers.", 1);
    if (golden_has(g, "text/cotangent")) {
        TRY(golden_f32(g, "text/cotangent", &cotangent, &s, e));
        seed = probe_input(p, nn_input(graph, "cotangent", F32, nn_shape_of(s.d, (size_t)s.n)), cotangent);
        probe_wrt_params(p, "text/grad/", "text_encoder.");
        probe_wrt(p, "text/grad_modifier_rows", nn_param_find(graph, SD_MODIFIER));
        TRY(probe_backward(p, last, seed, e));
    }
    return probe_run(p, e);
}

int check_text(golden *g, err *e)
{
    sd *m;

    if (!golden_wants_any(g, "text/"))
        return 0;
    TRY(golden_sd(g, &m, e));
    probe *p = probe_new(g, m);
    int rc = run(g, m, p, e);
    probe_free(p);
    return rc;
}
