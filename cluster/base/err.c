/* The error value: writing it, wrapping it, and the stop for our own mistakes. */
#include "cluster/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int err_set(err *e, err_code code, const char *fmt, ...)
{
    if (!e)
        return (int)code;
    char text[sizeof e->text]; /* apart from e: an argument may be e->text itself */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    e->code = code;
    memcpy(e->text, text, sizeof text);
    return (int)code;
}

int err_wrap(err *e, const char *fmt, ...)
{
    if (!e)
        return ERR_INPUT; /* nobody keeps the code; the caller still has to see a failure */
    CHECK(e->code != ERR_NONE);
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, args);
    va_end(args);
    size_t n = strlen(e->text);
    int put = snprintf(e->text + n, sizeof e->text - n, ": %s", old);
    return put < 0 ? (int)ERR_INPUT : (int)e->code;
}

const char *err_name(err_code code)
{
    switch (code) {
    case ERR_NONE: return "none";
    case ERR_INPUT: return "input";
    case ERR_SHAPE: return "shape";
    case ERR_IO: return "io";
    case ERR_MEMORY: return "memory";
    case ERR_DEVICE: return "device";
    case ERR_PEER: return "peer";
    }
    return "unknown";
}

void err_bug(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: this must hold and does not: %s\n", file, line, what);
    abort();
}
