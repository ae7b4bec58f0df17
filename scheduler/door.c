#include "scheduler/door.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/str.h"

enum { DOOR_MOST = 1 << 16 };

static int path_of(char out[FS_PATH], const char *farm, err *e) { return fs_join(out, farm, "door", e); }

static char *text_of(const door *d)
{
    json_t *addresses = json_array();
    json_t *o = json_pack("{s:i, s:i, s:s, s:I, s:I, s:f, s:b}", "version", 1, "port", d->port, "token", d->token, "workers",
                          (json_int_t)d->workers, "threads", (json_int_t)d->threads, "memory", d->memory, "cuda", d->cuda);
    char *text;

    for (int i = 0; i < d->addresses; i++)
        json_array_append_new(addresses, json_string(d->address[i]));
    json_object_set_new(o, "addresses", addresses);
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

int door_write(const door *d, const char *farm, err *e)
{
    char path[FS_PATH], *text;
    int rc;

    TRY(path_of(path, farm, e));
    text = text_of(d);
    rc = fs_write_private(path, text, strlen(text), e);
    free(text);
    return rc;
}

void door_remove(const char *farm)
{
    char path[FS_PATH];

    if (path_of(path, farm, NULL) == 0)
        unlink(path);
}

static int read_addresses(door *d, const json_t *o, err *e)
{
    const json_t *list = json_object_get(o, "addresses");

    for (size_t i = 0; i < json_array_size(list) && d->addresses < NODE_ADDRESSES; i++) {
        const char *one = json_string_value(json_array_get(list, i));
        if (one && str_copy(d->address[d->addresses], NODE_ADDRESS, one))
            d->addresses++;
    }
    return d->addresses > 0 ? 0 : err_set(e, ERR_INPUT, "no address");
}

static int read_fields(door *d, const json_t *o, err *e)
{
    const char *token;
    int64_t port, version;

    TRY(json_get_int(o, "version", 1, 1, &version, e));
    TRY(json_get_int(o, "port", 1, 65535, &port, e));
    TRY(json_get_text(o, "token", &token, e));
    TRY(json_opt_int(o, "workers", INT32_MIN, INT32_MAX, -1, &d->workers, e));
    TRY(json_opt_int(o, "threads", INT32_MIN, INT32_MAX, -1, &d->threads, e));
    TRY(json_opt_real(o, "memory", 1, &d->memory, e));
    d->port = (int)port;
    d->cuda = json_is_true(json_object_get(o, "cuda"));
    if (!str_copy(d->token, sizeof d->token, token))
        return err_set(e, ERR_INPUT, "a token too long");
    return read_addresses(d, o, e);
}

int door_read(door *out, const char *farm, err *e)
{
    char path[FS_PATH], *text;
    size_t n;
    json_t *o = NULL;
    int rc;

    *out = (door){0};
    TRY(path_of(path, farm, e));
    if (!fs_exists(path))
        return err_set(e, ERR_INPUT, "%s: no farm runs here that agents could join", farm);
    if (fs_read(path, &text, &n, DOOR_MOST, e) != 0)
        return e ? (int)(e->code = ERR_INPUT) : ERR_INPUT;
    rc = json_parse(&o, text, n, path, e);
    free(text);
    if (rc == 0)
        rc = read_fields(out, o, e);
    json_decref(o);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}
