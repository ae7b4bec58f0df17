/* Reading JSON with errors that say where, and getters that say what. */
#include "cluster/base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

/* Jansson would leave out of an object what it has no memory for, and a record of the journal would say less than it should: a
 * refused allocation ends the process, as any other small one does (mem.h). */
static void *take(size_t n) { return mem_grow(NULL, n, 1); }

__attribute__((constructor)) static void own_memory(void) { json_set_alloc_funcs(take, free); }

enum { JSON_MOST = 256 << 20 }; /* bytes of one file: an index of shards or a vocabulary is far below */

/* Python writes NaN and the infinities as bare words, which JSON does not have: a scheduler_config.json may say
 * "lambda_min_clipped": -Infinity. They are read as null. */
static json_t *without_words(const char *text, size_t n, json_error_t *bad)
{
    static const char *const WORDS[] = {"-Infinity", "Infinity", "NaN"};
    str plain = {0};
    bool quoted = false;

    for (size_t i = 0; i < n;) {
        size_t skip = 0;
        for (size_t k = 0; !quoted && skip == 0 && k < sizeof WORDS / sizeof *WORDS; k++)
            if (n - i >= strlen(WORDS[k]) && memcmp(text + i, WORDS[k], strlen(WORDS[k])) == 0)
                skip = strlen(WORDS[k]);
        if (skip) {
            str_put(&plain, "null", 4);
            i += skip;
            continue;
        }
        bool escaped = quoted && text[i] == '\\' && i + 1 < n;
        quoted ^= text[i] == '"';
        str_put(&plain, text + i, escaped ? 2 : 1);
        i += escaped ? 2 : 1;
    }
    json_t *v = json_loadb(plain.at ? plain.at : "", plain.n, JSON_REJECT_DUPLICATES, bad);
    str_free(&plain);
    return v;
}

int json_parse(json_t **out, const char *text, size_t n, const char *name, err *e)
{
    json_error_t bad;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &bad);
    if (!*out && (memmem(text, n, "NaN", 3) || memmem(text, n, "Infinity", 8)))
        *out = without_words(text, n, &bad);
    if (*out)
        return 0;
    for (char *p = bad.text; *p; p++)
        *p = (unsigned char)*p < ' ' ? ' ' : *p;
    return err_set(e, ERR_INPUT, "%s:%d:%d: %s", name, bad.line, bad.column, bad.text);
}

int json_read(json_t **out, const char *path, err *e)
{
    char *text;
    size_t n;
    *out = NULL;
    TRY(fs_read(path, &text, &n, JSON_MOST, e));
    int rc = json_parse(out, text, n, path, e);
    free(text);
    return rc;
}

/* "key 'steps' is "abc", not a whole number"; long values are cut. */
static int wrong(err *e, const char *key, const json_t *v, const char *wanted)
{
    if (!v)
        return err_set(e, ERR_INPUT, "key '%s' is missing; it is %s", key, wanted);
    char *said = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    bool large = said && strlen(said) > 40;
    int rc = err_set(e, ERR_INPUT, "key '%s' is %.40s%s, not %s", key, said ? said : "unreadable", large ? "..." : "",
                     wanted);
    free(said);
    return rc;
}

static json_t *present(const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

int json_get_int(const json_t *o, const char *key, int64_t least, int64_t most, int64_t *out, err *e)
{
    const json_t *v = json_object_get(o, key);
    if (json_is_integer(v) && json_integer_value(v) >= least && json_integer_value(v) <= most) {
        *out = json_integer_value(v);
        return 0;
    }
    str wanted = {0};
    str_add(&wanted, "a whole number");
    if (least != INT64_MIN || most != INT64_MAX)
        str_add(&wanted, " from %" PRId64 " to %" PRId64, least, most);
    int rc = wrong(e, key, v, wanted.at);
    str_free(&wanted);
    return rc;
}

int json_get_real(const json_t *o, const char *key, double *out, err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v))
        return wrong(e, key, v, "a number");
    *out = json_number_value(v);
    return 0;
}

int json_get_text(const json_t *o, const char *key, const char **out, err *e)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v))
        return wrong(e, key, v, "a text");
    *out = json_string_value(v);
    return 0;
}

int json_opt_int(const json_t *o, const char *key, int64_t least, int64_t most, int64_t fallback, int64_t *out, err *e)
{
    *out = fallback;
    return present(o, key) ? json_get_int(o, key, least, most, out, e) : 0;
}

int json_opt_real(const json_t *o, const char *key, double fallback, double *out, err *e)
{
    *out = fallback;
    return present(o, key) ? json_get_real(o, key, out, e) : 0;
}

int json_opt_bool(const json_t *o, const char *key, bool fallback, bool *out, err *e)
{
    const json_t *v = present(o, key);
    *out = fallback;
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return wrong(e, key, v, "true or false");
    *out = json_boolean_value(v);
    return 0;
}

int json_opt_text(const json_t *o, const char *key, const char *fallback, const char **out, err *e)
{
    *out = fallback;
    return present(o, key) ? json_get_text(o, key, out, e) : 0;
}
