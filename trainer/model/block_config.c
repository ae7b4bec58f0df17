/* Reading config.json: what stands there, or the sentence that tells what is not built. */
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/model/block.h"

/* The value as it stands in the file, cut to fit a sentence. */
static void json_show(const json_t *v, char out[80])
{
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : mem_text("nothing");

    if (!str_copy(out, 80, text ? text : "?"))
        memcpy(out + 76, "...", 4);
    free(text);
}

static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

int block_check_only(const json_t *config, const block_only *rows, err *e)
{
    for (; rows->key; rows++) {
        const json_t *v = json_object_get(config, rows->key);
        json_t *only = json_loads(rows->only, JSON_DECODE_ANY, NULL);
        bool ok = !v || json_is_null(v) || same(v, only);
        char stands[80];

        CHECK(only);
        json_decref(only);
        json_show(v, stands);
        if (!ok)
            return err_set(e, ERR_INPUT, "%s %s is not built (%s is)", rows->key, stands, rows->only);
    }
    return 0;
}

static int one_int(const json_t *v, const char *key, int64_t least, int64_t most, int *out, err *e)
{
    json_int_t i = json_integer_value(v);
    char stands[80];

    json_show(v, stands);
    if (!json_is_integer(v) || i < least || i > most)
        return err_set(e, ERR_INPUT, "%s: %s where a whole number from %lld to %lld is wanted", key, stands,
                       (long long)least, (long long)most);
    *out = (int)i;
    return 0;
}

int block_ints(const json_t *config, const char *key, int levels, int64_t least, int64_t most, int64_t fallback,
               int out[], err *e)
{
    const json_t *v = json_object_get(config, key);
    bool absent = !v || json_is_null(v);

    if (json_is_array(v) && json_array_size(v) != (size_t)levels)
        return err_set(e, ERR_INPUT, "%s has %zu values for %d levels", key, json_array_size(v), levels);
    for (int i = 0; i < levels; i++) {
        if (absent && fallback >= least)
            out[i] = (int)fallback;
        else
            TRY(one_int(json_is_array(v) ? json_array_get(v, (size_t)i) : v, key, least, most, &out[i], e));
    }
    return 0;
}

int block_types(const json_t *config, const char *key, int levels, const char *plain, const char *special, bool yes[],
                err *e)
{
    const json_t *v = json_object_get(config, key);

    if (!json_is_array(v) || json_array_size(v) != (size_t)levels)
        return err_set(e, ERR_INPUT, "%s: a list of %d block names is wanted, one for each of block_out_channels", key,
                       levels);
    for (int i = 0; i < levels; i++) {
        const char *name = json_string_value(json_array_get(v, (size_t)i));

        yes[i] = name && special && strcmp(name, special) == 0;
        if (!name || (!yes[i] && strcmp(name, plain) != 0))
            return err_set(e, ERR_INPUT, "%s: %s is not built (%s%s%s %s)", key, name ? name : "a value without a name",
                           plain, special ? " and " : "", special ? special : "", special ? "are" : "is");
    }
    return 0;
}
