#include "trainer/made_up.h"

#include "cluster/base/rng.h"

int made_up_fill(void *arg, int sample, step_sample *x, err *e)
{
    const made_up *m = arg;
    const uint64_t map = (uint64_t)(m->h * m->w), n = map * (uint64_t)sd_latent_channels(m->model);
    const uint32_t i = (uint32_t)sample, vocab = (uint32_t)sd_text_shape(m->model)->vocab;

    (void)e;
    rng_normal_fill(rng_open(1, "latents", 0, i), x->latents, n);
    x->noise = rng_open(1, "noise", 0, i);
    for (uint64_t k = 0; k < map; k++)
        x->mask[k] = 1;
    for (uint64_t k = 0; k < TOKENS; k++)
        x->ids[k] = (int32_t)rng_below(rng_open(1, "ids", 0, i), k, vocab);
    if (sd_text_rows(m->model) > 0)
        x->ids[4] = (int32_t)vocab;
    x->timestep = (int)rng_below(rng_open(1, "timestep", 0, i), 0, (uint32_t)sd_schedule(m->model)->steps);
    x->weight = 1.0f / (float)n;
    return 0;
}

int made_up_say(void *arg, int sample, float *text, err *e)
{
    const made_up *m = arg;

    (void)e;
    rng_normal_fill(rng_open(1, "text", 0, (uint32_t)sample), text, (uint64_t)TOKENS * (uint64_t)sd_text_shape(m->model)->width);
    return 0;
}
