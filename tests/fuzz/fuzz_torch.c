#include "merge/torch.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    torch_file f;
    err e = {0};

    if (torch_read(&f, fuzz_file(data, size), &e) != 0)
        return 0;
    for (size_t i = 0; i < f.n; i++)
        fuzz_touch(f.tensor[i].data, f.tensor[i].count * dtype_bytes(f.tensor[i].type));
    torch_free(&f);
    return 0;
}
