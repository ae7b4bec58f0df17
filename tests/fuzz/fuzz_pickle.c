#include "merge/torch_pickle.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const pickle_value *root;
    pickle *p;
    err e = {0};

    if (pickle_read(&p, &root, data, size, &e) == 0)
        pickle_free(p);
    return 0;
}
