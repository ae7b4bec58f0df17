#include "merge/parts.h"

#include <stdio.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"

/* ---- files ---- */

static const struct {
    const char *stem;
} PART[SD_PARTS] = {
    [SD_UNET] = {"unet/diffusion_pytorch_model"},
    [SD_VAE] = {"vae/diffusion_pytorch_model"},
    [SD_TEXT] = {"text_encoder/model"},
};

static int open_part(safetensors **out, const char *dir, sd_part k, err *e)
{
    static const char *const kinds[] = {".safetensors", ".fp16.safetensors"};
    char name[128], path[FS_PATH];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(name, sizeof name, "%s%s", PART[k].stem, kinds[i]);
        TRY(fs_join(path, dir, name, e));
        if (fs_exists(path))
            return st_open(out, path, e);
    }
    return err_set(e, ERR_INPUT, "%s: no %s.safetensors", dir, PART[k].stem);
}

int parts_open(parts *out, const char *dir, err *e)
{
    *out = (parts){{NULL}};
    for (sd_part k = 0; k < SD_PARTS; k++) {
        int rc = open_part(&out->file[k], dir, k, e);
        if (rc != 0) {
            parts_close(out);
            return rc;
        }
    }
    return 0;
}

void parts_close(parts *p)
{
    for (sd_part k = 0; k < SD_PARTS; k++)
        if (p->file[k])
            st_close(p->file[k]);
    *p = (parts){{NULL}};
}
