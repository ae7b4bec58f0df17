/* One plan for CAPTION_BATCH texts; fewer are filled up with the last. */
#include "trainer/eval/caption_vectors.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/node.h"
#include "trainer/nn/plan.h"

struct caption_vectors {
    const tokenizer *words;
    nn_graph *reads, *projects;     /* projects: NULL where the encoder has no projection */
    nn_plan *reading, *projecting;
    nn_tensor ids, states, ends, out;
    int states_width, width;
    float *state;                   /* [CAPTION_BATCH, TOKENS, states_width] */
    float *end;                     /* [CAPTION_BATCH, states_width] */
};

static int make_plans(caption_vectors *c, sd *model, err *e)
{
    c->reads = nn_graph_new();
    c->ids = nn_input(c->reads, "ids", I32, NN_SHAPE(CAPTION_BATCH, TOKENS));
    c->states = sd_text_write(c->reads, model, c->ids, NULL);
    TRY(nn_check(c->reads, e));
    TRY(nn_plan_new(&c->reading, c->reads, sd_params(model), &c->states, 1, e));
    if (sd_text_shape(model)->projection == 0)
        return 0;
    c->projects = nn_graph_new();
    c->ends = nn_input(c->projects, "ends", F32, NN_SHAPE(CAPTION_BATCH, c->states_width));
    nn_enter(c->projects, "text_encoder");
    c->out = clip_project_write(c->projects, sd_text_shape(model), c->ends);
    nn_leave(c->projects);
    TRY(nn_check(c->projects, e));
    return nn_plan_new(&c->projecting, c->projects, sd_params(model), &c->out, 1, e);
}

int caption_vectors_open(caption_vectors **out, sd *model, const tokenizer *words, err *e)
{
    caption_vectors *c = NEW(caption_vectors);

    c->words = words;
    c->states_width = sd_text_shape(model)->width;
    c->width = sd_text_embed_width(model);
    c->state = NEW_N(float, CAPTION_BATCH * TOKENS * c->states_width);
    c->end = NEW_N(float, CAPTION_BATCH * c->states_width);
    int rc = make_plans(c, model, e);
    if (rc != 0)
        caption_vectors_close(c);
    else
        *out = c;
    return rc;
}

void caption_vectors_close(caption_vectors *c)
{
    if (!c)
        return;
    nn_plan_free(c->reading);
    nn_plan_free(c->projecting);
    nn_graph_free(c->reads);
    nn_graph_free(c->projects);
    free(c->state);
    free(c->end);
    free(c);
}

int caption_vectors_width(const caption_vectors *c) { return c->width; }

/* The state at each text's first end token. */
static void gather_ends(caption_vectors *c, const int32_t *ids)
{
    size_t width = (size_t)c->states_width;

    for (size_t i = 0; i < CAPTION_BATCH; i++, ids += TOKENS) {
        size_t at = 0;
        while (at < TOKENS - 1 && ids[at] != tokenizer_eos(c->words))
            at++;
        memcpy(c->end + i * width, c->state + (i * TOKENS + at) * width, width * sizeof(float));
    }
}

int caption_vectors_run(caption_vectors *c, const char *const captions[], int n, float *out, err *e)
{
    int32_t ids[CAPTION_BATCH * TOKENS];
    float *all = NEW_N(float, CAPTION_BATCH * c->width);

    CHECK(n > 0 && n <= CAPTION_BATCH);
    for (int i = 0; i < CAPTION_BATCH; i++)
        tokenizer_encode(c->words, captions[i < n ? i : n - 1], ids + i * TOKENS);
    int rc = nn_write(c->reading, c->ids, ids, sizeof ids, e);
    if (rc == 0)
        rc = nn_run(c->reading, e);
    if (rc == 0)
        rc = nn_read(c->reading, c->states, c->state, (size_t)nn_bytes(c->states), e);
    if (rc == 0)
        gather_ends(c, ids);
    if (rc == 0 && c->projects) {
        rc = nn_write(c->projecting, c->ends, c->end, (size_t)nn_bytes(c->ends), e);
        if (rc == 0)
            rc = nn_run(c->projecting, e);
        if (rc == 0)
            rc = nn_read(c->projecting, c->out, all, (size_t)nn_bytes(c->out), e);
    }
    if (rc == 0)
        memcpy(out, c->projects ? all : c->end, (size_t)n * (size_t)c->width * sizeof *out);
    free(all);
    return rc;
}
