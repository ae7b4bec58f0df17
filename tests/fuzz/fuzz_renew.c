/* A store meant ill in another generation, in place: whatever of it can be kept is, with something new beside it, and what comes
 * of that can be opened again. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "data/store.h"
#include "tests/fuzz/fuzz.h"

enum { DEPTH = 4, MOST = 200 };

/* A file of its own, for it is changed; in memory where that can be. */
static const char *file_of(const uint8_t *data, size_t size)
{
    static char path[64];
    const char *form = access("/dev/shm", W_OK) == 0 ? "/dev/shm/cf-renew-XXXXXX" : "/tmp/cf-renew-XXXXXX";
    int fd;

    if (path[0] == '\0') {
        snprintf(path, sizeof path, "%s", form);
        fd = mkstemp(path);
    } else {
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0);
    return path;
}

static void keep_all(store *to, store *from, const char *group, int depth, int *left)
{
    char **names, path[FS_PATH];
    size_t n;

    store_names(from, group, &names, &n, NULL);
    for (size_t i = 0; i < n && depth < DEPTH && (*left)-- > 0; i++) {
        store_shape shape;
        if (snprintf(path, sizeof path, "%s%s%s", group, strcmp(group, "/") ? "/" : "", names[i]) >= (int)sizeof path)
            continue;
        if (store_shape_of(from, path, &shape, NULL) == 0)
            store_keep(to, path, NULL);
        else
            keep_all(to, from, path, depth + 1, left);
    }
    store_names_free(names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const float more[3] = {1, 2, 3};
    const char *path = file_of(data, size);
    int left = MOST, rc = -1;
    store *from, *to, *again;
    err e = {0};

    if (store_open(&from, path, &e) == 0) {
        if (store_renew(&to, path, store_digest(from), path, &e) == 0) {
            keep_all(to, from, "/", 0, &left);
            store_put(to, "/more/numbers", (store_shape){F32, 1, {3}}, more, &e);
            rc = store_commit(to, &e);
        }
        store_close(from);
    }
    if (rc == 0) {
        CHECK(store_open(&again, path, &e) == 0);
        store_check(again, &e);
        store_close(again);
    }
    unlink(path);
    return 0;
}
