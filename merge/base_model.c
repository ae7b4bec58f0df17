#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "merge/command.h"

#include <string.h>

int base_check(const base_model *b, const char *wanted, err *e)
{
    char is[HASH_HEX];
    TRY(sd_fingerprint(b->model, is, e));
    if (strcmp(is, wanted) != 0)
        return err_set(e, ERR_INPUT, "%s is another base model (fingerprint %.12s, not %.12s)", sd_dir(b->model), is,
                       wanted);
    return 0;
}

int base_open(base_model *out, const char *dir, const char *hint, const char *wanted, err *e)
{
    int rc;
    *out = (base_model){0};
    if (!dir[0] && (!hint || !hint[0]))
        return err_set(e, ERR_INPUT, "the base model is needed; give --base DIR");
    if (!dir[0] && !fs_exists(hint))
        return err_set(e, ERR_INPUT, "the base model is needed and is not at %s any more; give --base DIR", hint);
    TRY(nn_cpu_open(&out->backend, 0, false, e));
    rc = sd_open(&out->model, dir[0] ? dir : hint, out->backend, e);
    if (rc == 0 && wanted)
        rc = base_check(out, wanted, e);
    if (rc != 0)
        base_close(out);
    return rc;
}

void base_close(base_model *b)
{
    sd_close(b->model);
    if (b->backend)
        b->backend->close(b->backend);
    *b = (base_model){0};
}
