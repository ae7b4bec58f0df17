#include "cluster/wire/wire.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0, used = 1;
    wire_frame frame;
    err e = {0};

    while (at < size && used > 0 && wire_decode(data + at, size - at, &frame, &used, &e) == 0) {
        CHECK(used <= size - at);
        fuzz_touch(frame.body, used > 0 ? frame.n : 0);
        at += used;
    }
    return 0;
}
