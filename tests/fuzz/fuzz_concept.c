/* Concept and merged files, down to the HDF5 they are made of. Random changes would not get past the sha256 of what
 * they change: under the fuzzer store_digest.c believes every one. */
#include "data/concept.h"
#include "data/store.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    store *s;
    concept c;
    err e = {0};

    if (store_open(&s, path, &e) == 0) {
        store_check(s, &e);
        store_close(s);
    }
    if (concept_read(&c, path, CONCEPT_ALL, &e) != 0)
        return 0;
    for (int i = 0; i < c.n_tensors; i++)
        fuzz_touch(c.tensors[i].data, (size_t)c.tensors[i].rows * (size_t)(c.tensors[i].cols ? c.tensors[i].cols : 1) * 4);
    concept_read_shares(&c, path, NULL, &e);
    concept_free(&c);
    if (concept_read(&c, path, CONCEPT_ROWS, &e) != 0) /* as another merge reads it, which takes the images later or never */
        return 0;
    if (concept_read_left(&c, path, &e) == 0 && c.factors.rank > 0)
        fuzz_touch(c.factors.left, (size_t)c.factors.rank * (size_t)c.factors.outs * sizeof *c.factors.left);
    concept_free(&c);
    return 0;
}
