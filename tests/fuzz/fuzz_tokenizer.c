/* The first byte's lowest bit: whether the rest is a text to encode, or a merges.txt to open. */
#include <stdlib.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char MODEL[] = FUZZ_SOURCE "/data/toyworld/model/tokenizer";
static char folder[] = "/tmp/cf_fuzz_XXXXXX";

static void remove_folder(void)
{
    fs_remove_tree(folder, NULL);
}

/* A folder with the toy world's vocabulary and these merges. */
static void open_merges(const uint8_t *data, size_t size)
{
    static bool made;
    char path[FS_PATH], vocabulary[FS_PATH];
    tokenizer *t;
    err e = {0};

    if (!made) {
        CHECK(mkdtemp(folder) && fs_join(path, folder, "vocab.json", &e) == 0);
        CHECK(fs_join(vocabulary, MODEL, "vocab.json", &e) == 0 && symlink(vocabulary, path) == 0);
        CHECK(fs_join(path, folder, "merges.txt", &e) == 0 && symlink(fuzz_file(data, size), path) == 0);
        atexit(remove_folder);
        made = true;
    }
    fuzz_file(data, size);
    if (tokenizer_open(&t, folder, &e) == 0)
        tokenizer_close(t);
}

static void encode(const uint8_t *data, size_t size)
{
    static tokenizer *t;
    int32_t id[TOKENS];
    err e = {0};

    if (!t) {
        CHECK(tokenizer_open(&t, MODEL, &e) == 0);
        CHECK(tokenizer_add(t, "<new1>", id, &e) == 0);
    }
    CHECK(tokenizer_encode_bytes(t, (const char *)data, size, id) >= 0);
    for (int i = 0; i < TOKENS; i++)
        CHECK(id[i] >= 0 && id[i] <= tokenizer_vocab(t));
    CHECK(id[0] == tokenizer_bos(t));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0)
        (data[0] & 1 ? encode : open_merges)(data + 1, size - 1);
    return 0;
}
