/* Shapes as values, and how they are written in a message. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "trainer/nn/node.h"

nn_shape nn_shape_of(const int64_t *d, size_t n)
{
    nn_shape s = {.n = (int)n};

    CHECK(n <= NN_MAX_DIM);
    memcpy(s.d, d, n * sizeof *d);
    return s;
}

int64_t nn_count(nn_shape s)
{
    int64_t n = 1;

    for (int i = 0; i < s.n; i++)
        n *= s.d[i];
    return n;
}

bool nn_same_shape(nn_shape a, nn_shape b)
{
    if (a.n != b.n)
        return false;
    for (int i = 0; i < a.n; i++)
        if (a.d[i] != b.d[i])
            return false;
    return true;
}

bool nn_broadcasts(nn_shape whole, nn_shape part)
{
    int skip = whole.n - part.n;

    if (skip < 0)
        return false;
    for (int i = 0; i < part.n; i++)
        if (part.d[i] != 1 && part.d[i] != whole.d[skip + i])
            return false;
    return true;
}

const char *nn_shape_text(nn_shape s, char buf[64])
{
    size_t at = (size_t)snprintf(buf, 64, "[");

    for (int i = 0; i < s.n && at < 64; i++)
        at += (size_t)snprintf(buf + at, 64 - at, "%s%" PRId64, i ? "," : "", s.d[i]);
    if (at < 64)
        snprintf(buf + at, 64 - at, "]");
    return buf;
}

nn_shape nn_shape_get(nn_tensor t)
{
    return t->shape;
}

int64_t nn_bytes(nn_tensor t)
{
    return nn_count(t->shape) * (int64_t)dtype_bytes(t->type);
}
