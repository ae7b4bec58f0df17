#include <stdlib.h>

#include "cluster/base/mem.h"
#include "data/tar.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tar_member *m = NEW(tar_member);
    bool more = true;
    tar *t;
    err e = {0};

    if (tar_open(&t, fuzz_file(data, size), &e) == 0) {
        while (tar_next(t, m, &more, &e) == 0 && more)
            fuzz_touch(m->bytes, m->n);
        tar_close(t);
    }
    free(m);
    return 0;
}
