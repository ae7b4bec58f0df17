/* Regularisation chosen from an index file (reg_index.h). Pictures inside archives are taken out once, into
 * ROOT/regularisation/index, under the digest of their bytes, so that whoever needs one finds it there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "data/image.h"
#include "data/regset.h"
#include "data/tar.h"

bool regset_same_probe(const float *a, const float *b, int dim)
{
    double ab = 0, aa = 0, bb = 0;

    for (int i = 0; i < dim; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return aa > 0 && bb > 0 && ab / sqrt(aa * bb) > 0.9999; /* f16 weights and other processors are off by less */
}

static int check_maker(const reg_index *x, const char *path, const regset_embed *embed, err *e)
{
    const char *probe = REG_INDEX_PROBE;
    float *mine = NEW_N(float, embed->dim);
    int rc = embed->run(embed->arg, &probe, 1, mine, e);

    if (rc == 0 && (reg_index_dim(x) != embed->dim || !regset_same_probe(reg_index_probe(x), mine, embed->dim)))
        rc = err_set(e, ERR_INPUT,
                     "%s: made by another text encoder than this model's; make it again: cfarm reg index ... -o FILE "
                     "--model DIR",
                     path);
    free(mine);
    return rc;
}

int regset_ask(reg_index **out, const char *path, const char *caption, double least, size_t want,
               const regset_embed *embed, reg_hit **hits, size_t *n, size_t *found, err *e)
{
    float *query = NEW_N(float, embed->dim);
    int rc = reg_index_open(out, path, e);

    if (rc == 0)
        rc = check_maker(*out, path, embed, e);
    if (rc == 0)
        rc = embed->run(embed->arg, &caption, 1, query, e);
    if (rc == 0)
        rc = reg_index_search(*out, query, least, want, hits, n, found, e);
    free(query);
    return rc;
}

/* ---- pictures of archives ---- */

/* By its first bytes: what a file of these is called. */
static const char *ending_of(const unsigned char *bytes, size_t n)
{
    if (n >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8)
        return "jpg";
    if (n >= 4 && memcmp(bytes, "\x89PNG", 4) == 0)
        return "png";
    return n >= 12 && memcmp(bytes + 8, "WEBP", 4) == 0 ? "webp" : NULL;
}

static int write_out(char to[FS_PATH], const char *folder, const reg_entry *x, const void *bytes, err *e)
{
    const char *ending = ending_of(bytes, x->size);
    char hex[HASH_HEX], name[HASH_HEX + 8];

    if (!ending)
        return err_set(e, ERR_INPUT,
                       "%s: no JPEG, PNG or WebP at offset %llu; the archive is another than when it was indexed",
                       x->path, (unsigned long long)x->at);
    hash_bytes(bytes, x->size, hex);
    snprintf(name, sizeof name, "%.32s.%s", hex, ending);
    TRY(fs_join(to, folder, name, e));
    return fs_exists(to) ? 0 : fs_write(to, bytes, x->size, e);
}

static int take_out(char to[FS_PATH], const char *folder, const reg_entry *x, err *e)
{
    tar *t;

    TRY(tar_open(&t, x->path, e));
    const void *bytes = tar_at(t, x->at, x->size);
    int rc = bytes ? write_out(to, folder, x, bytes, e)
                   : err_set(e, ERR_INPUT, "%s: shorter than when it was indexed", x->path);
    tar_close(t);
    return rc;
}

/* ---- the chosen ones ---- */

static int take(image_list *out, const char *root, const reg_entry *x, err *e)
{
    char folder[FS_PATH], path[FS_PATH];

    if (x->size > 0) {
        TRY(fs_join(folder, root, "regularisation/index", e));
        TRY(fs_mkdirs(folder, e));
        TRY(take_out(path, folder, x, e));
    }
    out->at = mem_grow(out->at, out->n + 1, sizeof *out->at);
    out->at[out->n++] = (image_entry){mem_text(x->size > 0 ? path : x->path), mem_text(x->caption)};
    return 0;
}

int regset_from_index(image_list *out, regset_told *told, const char *path, const char *root, const char *own,
                      double least, size_t want, const regset_embed *embed, err *e)
{
    reg_index *x = NULL;
    reg_hit *hits = NULL;
    size_t n = 0;
    int rc = regset_ask(&x, path, own, least, want, embed, &hits, &n, &told->found, e);

    if (rc == 0) {
        told->of = (size_t)reg_index_count(x);
        told->lowest = n > 0 ? hits[n - 1].near : 0;
    }
    for (size_t i = 0; i < n && n == want && rc == 0; i++) {
        reg_entry r = reg_index_at(x, hits[i].row);
        rc = take(out, root, &r, e);
    }
    free(hits);
    reg_index_close(x);
    return rc;
}
