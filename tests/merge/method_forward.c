/* method_forward MODEL CONCEPT.h5|- PROMPT OUT.safetensors: what the model with the concept laid over it makes of one prompt
 * and one noise: "states" [1,77,width] of the text encoder and "said" [1,c,h,w] of the UNet at timestep 300. For
 * tests/reference/methods_in_diffusers.py, which asks diffusers for the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/safetensors.h"
#include "trainer/apply.h"

static int forward(sd *m, tokenizer *t, const char *prompt, const char *out, err *e)
{
    int32_t ids[TOKENS];
    int c = sd_latent_channels(m), side = sd_side(m) / vae_factor(sd_vae_shape(m)), width = sd_text_shape(m)->width;
    int64_t n = (int64_t)side * side * c;
    float *states = NEW_N(float, TOKENS * width), *noise = NEW_N(float, n), *said = NEW_N(float, n), *turned = NEW_N(float, 2 * n);
    float at = 300;

    tokenizer_encode(t, prompt, ids);
    rng_normal_fill(rng_open(5, "forward", 0, 0), noise, (uint64_t)n);
    TRY(sd_text_encode(m, ids, 1, TOKENS, states, e));
    TRY(sd_unet(m, noise, &at, states, 1, side, side, TOKENS, said, e));
    for (int64_t p = 0; p < (int64_t)side * side; p++)
        for (int k = 0; k < c; k++) {
            turned[k * (int64_t)side * side + p] = noise[p * c + k];
            turned[n + k * (int64_t)side * side + p] = said[p * c + k];
        }
    st_tensor list[] = {
        {.name = "noise", .type = F32, .n = 4, .d = {1, c, side, side}, .count = (uint64_t)n, .data = turned},
        {.name = "said", .type = F32, .n = 4, .d = {1, c, side, side}, .count = (uint64_t)n, .data = turned + n},
        {.name = "states", .type = F32, .n = 3, .d = {1, TOKENS, width}, .count = (uint64_t)(TOKENS * width), .data = states},
    };
    int rc = st_write(out, list, 3, (const char *const[]){NULL}, (const char *const[]){NULL}, e);
    free(states);
    free(noise);
    free(said);
    free(turned);
    return rc;
}

static int run(char **arg, err *e)
{
    char dir[FS_PATH];
    concept c = {0};
    nn_backend *b;
    tokenizer *t;
    sd *m;

    TRY(nn_cpu_open(&b, 0, false, e));
    TRY(sd_open(&m, arg[1], b, e));
    TRY(fs_join(dir, arg[1], "tokenizer", e));
    TRY(tokenizer_open(&t, dir, e));
    if (strcmp(arg[2], "-") != 0) {
        TRY(concept_read(&c, arg[2], CONCEPT_TENSORS | CONCEPT_FACTORS, e));
        TRY(apply_concept(m, t, &c, e));
    }
    return forward(m, t, arg[3], arg[4], e);
}

int main(int argc, char **argv)
{
    err e = {0};

    if (argc != 5) {
        fprintf(stderr, "method_forward MODEL CONCEPT.h5|- PROMPT OUT.safetensors\n");
        return 2;
    }
    if (run(argv, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    return 0;
}
