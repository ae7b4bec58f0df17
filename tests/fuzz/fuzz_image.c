#include "data/image.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    image_info info;
    image m;
    err e = {0};

    if (image_probe(&info, fuzz_file(data, size), &e) == 0 && (int64_t)info.h * info.w > 1 << 22)
        return 0; /* a large picture that a header promises: right, but slow */
    if (image_decode(&m, data, size, &e) != 0)
        return 0;
    fuzz_touch(m.rgb, (size_t)m.h * (size_t)m.w * 3);
    image_free(&m);
    return 0;
}
