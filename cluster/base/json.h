#ifndef CF_JSON_H
#define CF_JSON_H
/* Jansson, with our errors and getters that say what is missing. A json_t belongs to json_decref as usual;
 * getters borrow. */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/err.h"

/* Errors name file:line:column. The bare words NaN, Infinity and -Infinity, which Python writes, are read as null. */
int json_read(json_t **out, const char *path, err *e);
int json_parse(json_t **out, const char *text, size_t n, const char *name, err *e);

/* Required: an error names the key and what stands there instead. */
int json_get_int(const json_t *o, const char *key, int64_t least, int64_t most, int64_t *out, err *e);
int json_get_real(const json_t *o, const char *key, double *out, err *e);
int json_get_text(const json_t *o, const char *key, const char **out, err *e);
/* Optional: the fallback where the key is absent or null; a wrong type is an error all the same. */
int json_opt_int(const json_t *o, const char *key, int64_t least, int64_t most, int64_t fallback, int64_t *out, err *e);
int json_opt_real(const json_t *o, const char *key, double fallback, double *out, err *e);
int json_opt_bool(const json_t *o, const char *key, bool fallback, bool *out, err *e);
int json_opt_text(const json_t *o, const char *key, const char *fallback, const char **out, err *e);
#endif
