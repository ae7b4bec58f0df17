#include "data/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    safetensors *f;
    err e = {0};

    if (st_open(&f, fuzz_file(data, size), &e) != 0)
        return 0;
    for (size_t i = 0; i < st_count(f); i++) {
        const st_tensor *t = st_at(f, i);

        CHECK(st_find(f, t->name) == t);
        fuzz_touch(t->data, t->count * dtype_bytes(t->type));
    }
    st_metadata(f, "format");
    st_close(f);
    return 0;
}
