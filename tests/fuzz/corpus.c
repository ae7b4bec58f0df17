/* fuzz_NAME_corpus PATH...: runs a target on every file named, and on every file of every folder named. */
#include <stdio.h>
#include <stdlib.h>

#include "cluster/base/fs.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_MOST = 16 << 20 };
static size_t inputs;

static int run_file(const char *path, err *e)
{
    char *bytes;
    size_t n;

    TRY(fs_read(path, &bytes, &n, INPUT_MOST, e));
    LLVMFuzzerTestOneInput((const uint8_t *)bytes, n);
    free(bytes);
    inputs++;
    return 0;
}

static int run_folder(const char *path, err *e)
{
    char **names, inside[FS_PATH];
    size_t n;
    int rc = 0;

    TRY(fs_list(&names, &n, path, e));
    for (size_t i = 0; i < n && rc == 0; i++)
        if ((rc = fs_join(inside, path, names[i], e)) == 0 && !fs_is_dir(inside))
            rc = run_file(inside, e);
    fs_list_free(names);
    return rc;
}

int main(int argc, char **argv)
{
    err e = {0};

    for (int i = 1; i < argc; i++)
        if ((fs_is_dir(argv[i]) ? run_folder(argv[i], &e) : run_file(argv[i], &e)) != 0) {
            fprintf(stderr, "%s\n", e.text);
            return 1;
        }
    printf("%zu inputs\n", inputs);
    return inputs == 0; /* a corpus that went missing is no success */
}
