#include "trainer/regset_make.h"

#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/sample.h"

static int make_one(sd *model, const tokenizer *words, const sample_opts *o, const regset_need *need, int k, err *e)
{
    size_t n = (size_t)(o->width * o->height * 3);
    char name[32], path[FS_PATH];

    regset_name(name, k);
    TRY(fs_join(path, need->folder, name, e));
    if (fs_exists(path))
        return 0;
    float *pixels = NEW_N(float, n);
    uint8_t *rgb = NEW_N(uint8_t, n);
    int rc = sample_picture(model, words, o, need->prompt, "", (uint32_t)k, pixels, e);
    sample_bytes(pixels, rgb, n);
    if (rc == 0)
        rc = image_write_png(path, rgb, o->height, o->width, e);
    free(pixels);
    free(rgb);
    return rc;
}

static int make_all(sd *model, const tokenizer *words, const data_cfg *data, const regset_need *need, comm *gang, err *e)
{
    int side = data->resolution > 0 ? (int)data->resolution : sd_side(model);
    sample_opts o = {.sampler = "ddim", .steps = 50, .eta = 1, .guidance = 6, .width = side, .height = side};

    if (need->want <= need->have)
        return 0;
    TRY(fs_mkdirs(need->folder, e));
    for (int k = comm_rank(gang); k < need->want; k += comm_size(gang))
        if (make_one(model, words, &o, need, k, e) != 0)
            return err_wrap(e, "making class picture %d", k);
    return 0;
}

int regset_make(sd *model, const tokenizer *words, const data_cfg *data, comm *gang, err *e)
{
    regset_need *need = NULL;
    err mine = {0};
    int n = 0;

    data_missing(&need, &n, data, &mine);
    for (int i = 0; i < n && !mine.code; i++)
        make_all(model, words, data, &need[i], gang, &mine);
    free(need);
    return comm_agree(gang, &mine, e); /* nobody reads the folder before all have written */
}
