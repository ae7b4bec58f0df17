#ifndef TORCH_ZIP_H
#define TORCH_ZIP_H
/* The container of torch files: a zip whose entries are stored, not compressed (torch writes no others). Every offset
 * and size is checked against the file before it is used. Source: PKWARE APPNOTE 6.3, sections 4.3 and 4.4. */
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/fs.h"

typedef struct {
    char *name;
    const unsigned char *at; /* in the mapping */
    size_t bytes;
} zip_entry;

typedef struct {
    fs_map map;
    zip_entry *entry;
    size_t n;
} zip_file;

int zip_open(zip_file *out, const char *path, err *e);
void zip_close(zip_file *z);
const zip_entry *zip_find(const zip_file *z, const char *name);      /* NULL: none */
const zip_entry *zip_find_tail(const zip_file *z, const char *tail); /* the first whose name ends so */

/* Writes all entries, each starting at a multiple of 64 as torch aligns its storages. Atomic. */
int zip_write(const char *path, const zip_entry *entry, size_t n, err *e);
#endif
