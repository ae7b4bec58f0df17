#ifndef SCRATCH_H
#define SCRATCH_H
/* A folder of a test's own, gone when the test ends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fs.h"

static char scratch[FS_PATH];

static inline int scratch_make(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%s/cfarm-test-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_remove(void **state)
{
    (void)state;
    return fs_remove_tree(scratch, NULL);
}

/* scratch/name; good until four more were asked for. */
static inline const char *in_scratch(const char *name)
{
    static char paths[4][FS_PATH];
    static int turn;
    char *p = paths[turn++ % 4];
    assert_int_equal(fs_join(p, scratch, name, NULL), 0);
    return p;
}

/* "a: b" with every "@" of the pattern standing for the scratch folder. */
static inline void assert_said(const char *said, const char *pattern)
{
    char want[2 * FS_PATH];
    size_t n = 0;
    for (; *pattern && n + FS_PATH < sizeof want; pattern++) {
        if (*pattern == '@')
            n += (size_t)snprintf(want + n, FS_PATH, "%s", scratch);
        else
            want[n++] = *pattern;
    }
    want[n] = 0;
    assert_string_equal(said, want);
}
#endif
