/* Writes safetensors as the reference writer does: compact JSON, blanks up to a multiple of 8, data without holes in
 * the order given. The file appears whole or not at all. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fault.h"
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "data/safetensors.h"

static int add_metadata(json_t *header, const char *const keys[], const char *const values[], err *e)
{
    json_t *meta = json_pack("{ss}", "format", "pt");

    json_object_set_new(header, "__metadata__", meta);
    for (size_t i = 0; keys && keys[i]; i++)
        if (json_object_set_new(meta, keys[i], json_string(values[i])) != 0)
            return err_set(e, ERR_INPUT, "metadata %zu is not UTF-8", i);
    return 0;
}

static json_t *entry_of(const st_tensor *t, uint64_t *at)
{
    const uint64_t from = *at;
    json_t *shape = json_array();

    for (int i = 0; i < t->n; i++)
        json_array_append_new(shape, json_integer(t->d[i]));
    *at += t->count * dtype_bytes(t->type);
    return json_pack("{sssos[II]}", "dtype", dtype_name(t->type), "shape", shape, "data_offsets", (json_int_t)from,
                     (json_int_t)*at);
}

static void check_count(const st_tensor *t)
{
    uint64_t count = 1;

    CHECK(t->n >= 0 && t->n <= ST_MAX_DIM);
    for (int i = 0; i < t->n; i++)
        count *= (uint64_t)t->d[i];
    CHECK(count == t->count);
}

static int add_entries(json_t *header, const st_tensor *tensors, size_t n, err *e)
{
    uint64_t at = 0;

    for (size_t i = 0; i < n; i++) {
        const char *name = tensors[i].name;

        check_count(&tensors[i]);
        TRY(st_check_name(name, e));
        if (json_object_get(header, name))
            return err_set(e, ERR_INPUT, "two tensors named \"%s\"", name);
        if (json_object_set_new(header, name, entry_of(&tensors[i], &at)) != 0)
            return err_set(e, ERR_INPUT, "a tensor's name is not UTF-8");
    }
    return 0;
}

/* Length, JSON, blanks up to a multiple of 8 so that the data is aligned. */
static int put_header(FILE *to, json_t *header)
{
    char *text = json_dumps(header, JSON_COMPACT);
    unsigned char length[8];
    int n, padded;

    CHECK(text);
    n = (int)strlen(text);
    padded = (n + 7) / 8 * 8;
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    fwrite(length, 1, sizeof length, to);
    fprintf(to, "%-*s", padded, text);
    free(text);
    return ferror(to);
}

static int put_data(FILE *to, const st_tensor *t)
{
    const size_t bytes = (size_t)t->count * dtype_bytes(t->type);

    return bytes > 0 && fwrite(t->data, 1, bytes, to) != bytes;
}

static int refuse(err *e, const char *path, const char *verb, int number)
{
    return err_set(e, ERR_IO, "%s: cannot %s: %s", path, verb, fs_reason(number));
}

static int write_aside(const char *aside, const char *path, json_t *header, const st_tensor *tensors, size_t n, err *e)
{
    FILE *to = fopen(aside, "wbe");
    int bad, number;

    if (!to)
        return refuse(e, path, "create", errno);
    bad = put_header(to, header);
    for (size_t i = 0; i < n && !bad; i++)
        bad = put_data(to, &tensors[i]);
    number = errno;
    if (fclose(to) != 0 && !bad) {
        number = errno;
        bad = 1;
    }
    if (fault_here("st.write")) {
        number = ENOSPC;
        bad = 1;
    }
    return bad ? refuse(e, path, "write", number) : 0;
}

static int write_file(const char *path, json_t *header, const st_tensor *tensors, size_t n, err *e)
{
    char aside[FS_PATH];
    int rc;

    TRY(fs_aside(aside, path, e));
    rc = write_aside(aside, path, header, tensors, n, e);
    if (rc == 0)
        return fs_commit(aside, path, e);
    fs_discard(aside);
    return rc;
}

int st_write(const char *path, const st_tensor *tensors, size_t n, const char *const keys[], const char *const values[],
             err *e)
{
    json_t *header = json_object();
    int rc = add_metadata(header, keys, values, e);

    if (rc == 0)
        rc = add_entries(header, tensors, n, e);
    if (rc != 0)
        err_wrap(e, "%s", path);
    else
        rc = write_file(path, header, tensors, n, e);
    json_decref(header);
    return rc;
}
