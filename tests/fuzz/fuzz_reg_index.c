#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/reg_index.h"
#include "tests/fuzz/fuzz.h"

static void search(const reg_index *x)
{
    float *query = NEW_N(float, reg_index_dim(x));
    reg_hit *hits = NULL;
    size_t n, found;
    err e = {0};

    query[0] = 1;
    if (reg_index_search(x, query, -1, 3, &hits, &n, &found, &e) == 0)
        CHECK(n <= found && found <= (size_t)reg_index_count(x));
    free(hits);
    free(query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reg_index *x;
    err e = {0};

    if (reg_index_open(&x, fuzz_file(data, size), &e) != 0)
        return 0;
    for (int64_t i = 0; i < reg_index_count(x); i++) {
        reg_entry r = reg_index_at(x, i);
        fuzz_touch(r.path, strlen(r.path));
        fuzz_touch(r.caption, strlen(r.caption));
    }
    search(x);
    reg_index_close(x);
    return 0;
}
