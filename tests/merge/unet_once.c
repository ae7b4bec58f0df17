/* unet_once MODEL CONCEPT.h5 PROMPT X.safetensors OUT.safetensors: what our engine makes of a concept or merged file, for
 * tests/reference/clients.py to hold other programs against. X: "x" [h,w,c], "t" [1]; OUT: "text" [tokens,width], "said"
 * [h,w,c]. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/safetensors.h"
#include "trainer/apply.h"

typedef struct {
    nn_backend *backend;
    sd *m;
    tokenizer *t;
    concept c;
    safetensors *in;
} job;

static int open_all(job *j, char **argv, err *e)
{
    char path[FS_PATH];

    TRY(nn_cpu_open(&j->backend, 1, false, e));
    TRY(sd_open(&j->m, argv[1], j->backend, e));
    TRY(fs_join(path, argv[1], "tokenizer", e));
    TRY(tokenizer_open(&j->t, path, e));
    TRY(concept_read(&j->c, argv[2], CONCEPT_TENSORS | CONCEPT_FACTORS, e));
    TRY(apply_concept(j->m, j->t, &j->c, e));
    return st_open(&j->in, argv[4], e);
}

static int run(job *j, const char *prompt, const char *to, err *e)
{
    const st_tensor *x = st_find(j->in, "x");
    float t, *noise = NEW_N(float, x->count), *said = NEW_N(float, x->count);
    int64_t width = sd_text_shape(j->m)->width;
    float *text = NEW_N(float, TOKENS *width);
    int32_t ids[TOKENS];

    TRY(st_read_f32(j->in, "x", noise, x->count, e));
    TRY(st_read_f32(j->in, "t", &t, 1, e));
    tokenizer_encode(j->t, prompt, ids);
    TRY(sd_text_encode(j->m, ids, 1, TOKENS, text, e));
    TRY(sd_unet(j->m, noise, &t, text, 1, (int)x->d[0], (int)x->d[1], TOKENS, said, e));
    const st_tensor out[] = {
        {.name = "text", .type = F32, .n = 2, .d = {TOKENS, width}, .count = (uint64_t)(TOKENS * width), .data = text},
        {.name = "said", .type = F32, .n = 3, .d = {x->d[0], x->d[1], x->d[2]}, .count = x->count, .data = said},
    };
    int rc = st_write(to, out, 2, (const char *const[]){NULL}, (const char *const[]){NULL}, e);
    free(noise);
    free(said);
    free(text);
    return rc;
}

int main(int argc, char **argv)
{
    job j = {0};
    err e = {0};
    int rc = argc == 6 ? open_all(&j, argv, &e) : err_set(&e, ERR_INPUT, "MODEL CONCEPT PROMPT X OUT");

    if (rc == 0)
        rc = run(&j, argv[3], argv[5], &e);
    if (rc != 0)
        fprintf(stderr, "unet_once: %s\n", e.text);
    st_close(j.in);
    concept_free(&j.c);
    tokenizer_close(j.t);
    sd_close(j.m);
    if (j.backend)
        j.backend->close(j.backend);
    return rc != 0;
}
