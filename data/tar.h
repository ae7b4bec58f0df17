#ifndef TAR_H
#define TAR_H
/* Regular files of a tar archive, in their order: ustar, GNU's long names, pax paths and sizes. The archive is mapped;
 * a header is believed only with its checksum, and no size it tells leads out of the file. What is no regular file is
 * passed over; a compressed archive is refused with the remedy. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

enum { TAR_NAME = 4096 };
typedef struct {
    char name[TAR_NAME];   /* as in the archive, without "./" in front */
    uint64_t at;           /* where its bytes begin in the archive */
    size_t n;
    const void *bytes;     /* into the mapping */
} tar_member;

typedef struct tar tar;
int tar_open(tar **out, const char *path, err *e);
void tar_close(tar *t);
/* *more is false behind the last member, where m is as it was. */
int tar_next(tar *t, tar_member *m, bool *more, err *e);
/* The n bytes at `at` of the archive; NULL where they would leave it. */
const void *tar_at(const tar *t, uint64_t at, uint64_t n);
#endif
