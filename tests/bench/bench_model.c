/* Writes a model's folder of a named shape with random weights, for measurements that begin with files:
 *   bench_model SHAPE DIR TOKENIZER_DIR [f16]
 * SHAPE as `cfarm bench` knows it; the tokenizer's vocab.json and merges.txt are copied from TOKENIZER_DIR. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "data/safetensors.h"
#include "trainer/model/sd.h"
#include "trainer/model/shapes.h"

typedef struct { const char *shape, *dir, *tokenizer; dtype type; sd *model; } job;

static int write_text(const job *j, const char *folder, const char *name, const char *text, size_t n, err *e)
{
    char where[FS_PATH], path[FS_PATH];

    TRY(fs_join(where, j->dir, folder, e));
    TRY(fs_mkdirs(where, e));
    TRY(fs_join(path, where, name, e));
    return fs_write(path, text, n, e);
}

static int copy_text(const job *j, const char *name, err *e)
{
    char path[FS_PATH], *text;
    size_t n;

    TRY(fs_join(path, j->tokenizer, name, e));
    TRY(fs_read(path, &text, &n, 64 << 20, e));
    int rc = write_text(j, "tokenizer", name, text, n, e);
    free(text);
    return rc;
}

/* One weight, in the type asked for. */
static int take(const job *j, const char *name, size_t skip, st_tensor *out, err *e)
{
    nn_shape s;

    TRY(nn_params_shape(sd_params(j->model), name, &s, e));
    *out = (st_tensor){.name = name + skip, .type = j->type, .n = s.n, .count = (uint64_t)nn_count(s)};
    memcpy(out->d, s.d, (size_t)s.n * sizeof *s.d);
    float *x = NEW_N(float, out->count);
    void *data = mem_new(out->count + 1, dtype_bytes(j->type));
    int rc = nn_params_get(sd_params(j->model), name, x, out->count, e);
    f32_into(data, j->type, x, out->count);
    free(x);
    out->data = data;
    return rc;
}

static int write_part(const job *j, const char *part, const char *file, err *e)
{
    static const char *const NONE[] = {NULL};
    char where[FS_PATH], path[FS_PATH];
    st_tensor *all = NULL;
    size_t n = 0, skip = strlen(part) + 1;
    const char *name;
    int rc = 0;

    for (size_t i = 0; rc == 0 && (name = nn_params_name(sd_params(j->model), i)) != NULL; i++)
        if (strncmp(name, part, skip - 1) == 0 && name[skip - 1] == '.') {
            all = mem_grow(all, n + 1, sizeof *all);
            rc = take(j, name, skip, &all[n++], e);
        }
    if (rc == 0)
        rc = fs_join(where, j->dir, part, e);
    if (rc == 0)
        rc = fs_join(path, where, file, e);
    if (rc == 0)
        rc = st_write(path, all, n, NONE, NONE, e);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)all[i].data);
    free(all);
    return rc;
}

static int write_config(const job *j, const char *folder, const char *name, const char *which, err *e)
{
    const char *text = shape_config(j->shape, which);

    return write_text(j, folder, name, text, strlen(text), e);
}

static int write_all(const job *j, err *e)
{
    TRY(write_config(j, ".", "model_index.json", "model_index", e));
    TRY(write_config(j, "unet", "config.json", "unet", e));
    TRY(write_config(j, "vae", "config.json", "vae", e));
    TRY(write_config(j, "text_encoder", "config.json", "text_encoder", e));
    TRY(write_config(j, "scheduler", "scheduler_config.json", "scheduler", e));
    TRY(copy_text(j, "vocab.json", e));
    TRY(copy_text(j, "merges.txt", e));
    TRY(write_part(j, "unet", "diffusion_pytorch_model.safetensors", e));
    TRY(write_part(j, "vae", "diffusion_pytorch_model.safetensors", e));
    return write_part(j, "text_encoder", "model.safetensors", e);
}

int main(int argc, char **argv)
{
    nn_backend *on = NULL;
    job j = {.type = F32};
    err e = {0};

    if (argc < 4 || argc > 5 || (argc == 5 && strcmp(argv[4], "f16") != 0)) {
        fprintf(stderr, "usage: bench_model SHAPE DIR TOKENIZER_DIR [f16]\n");
        return 2;
    }
    j.shape = argv[1];
    j.dir = argv[2];
    j.tokenizer = argv[3];
    j.type = argc == 5 ? F16 : F32;
    int rc = nn_cpu_open(&on, 1, false, &e);
    if (rc == 0)
        rc = sd_open_named(&j.model, j.shape, on, &e);
    if (rc == 0)
        rc = write_all(&j, &e);
    if (rc != 0)
        fprintf(stderr, "bench_model: %s\n", e.text);
    sd_close(j.model);
    if (on)
        on->close(on);
    return rc != 0;
}
