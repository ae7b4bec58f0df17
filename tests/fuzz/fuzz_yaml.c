#include "configs/cfg_yaml.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cfg_doc *d = cfg_doc_new();
    const cfg_node *root;
    err e = {0};

    if (cfg_yaml_parse(&root, d, (const char *)data, size, "fuzz", &e) == 0)
        CHECK(root);
    else
        CHECK(e.text[0] != '\0');
    cfg_doc_free(d);
    return 0;
}
