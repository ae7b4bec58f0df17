/* Concept and merged files, and the HDF5 below them. Nearly every byte of such a file stands under a checksum, where
 * random changes would get no further. So under the fuzzer HDF5 finds each checksum of its metadata to be the one it
 * expects (this program's function takes the place of the library's), and store_digest.c believes every sha256. */
#include <string.h>

#include "data/concept.h"
#include "data/store.h"
#include "tests/fuzz/fuzz.h"

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
uint32_t H5_checksum_metadata(const void *bytes, size_t n, uint32_t start);

/* What is expected stands behind the bytes. */
__attribute__((no_sanitize("address", "undefined"))) uint32_t H5_checksum_metadata(const void *bytes, size_t n,
                                                                                   uint32_t start)
{
    uint32_t expected;

    (void)start;
    memcpy(&expected, (const unsigned char *)bytes + n, sizeof expected);
    return expected;
}
#endif

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
    concept_free(&c);
    return 0;
}
