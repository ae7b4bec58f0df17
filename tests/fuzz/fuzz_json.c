#include "cluster/base/json.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *root;
    int64_t number;
    const char *text;
    err e = {0};

    if (json_parse(&root, (const char *)data, size, "fuzz", &e) != 0)
        return 0;
    json_get_int(root, "a", 0, 10, &number, &e);
    json_get_text(root, "b", &text, &e);
    json_decref(root);
    return 0;
}
