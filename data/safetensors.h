#ifndef SAFETENSORS_H
#define SAFETENSORS_H
/* Tensors of a safetensors file, mapped read-only, and a writer. The header is checked whole at opening: its size,
 * every dtype, shape (overflow), range and overlap; an untrusted file cannot make a reader leave the mapping. */
#include <stdint.h>

#include "cluster/base/dtype.h"
#include "cluster/base/err.h"

enum { ST_MAX_DIM = 8 };
typedef struct {
    const char *name;            /* owned by the file */
    dtype type;
    int n;                       /* dimensions; 0: a scalar */
    int64_t d[ST_MAX_DIM];
    uint64_t count;              /* elements */
    const void *data;            /* into the mapping; may be unaligned */
} st_tensor;

typedef struct safetensors safetensors;
int st_open(safetensors **out, const char *path, err *e);
/* Tensors of an open file, which must stay open, as a file of their own under names of their own (copied). path: for people. */
void st_view(safetensors **out, const char *path, const st_tensor *tensors, size_t n);
void st_close(safetensors *f);
const char *st_path(const safetensors *f);
size_t st_count(const safetensors *f);
const st_tensor *st_at(const safetensors *f, size_t i);              /* in the order of their data */
const st_tensor *st_find(const safetensors *f, const char *name);    /* NULL: none */
const char *st_metadata(const safetensors *f, const char *key);      /* of __metadata__; NULL: none */
/* Float tensors of any type into f32; ERR_SHAPE unless count elements. */
int st_read_f32(const safetensors *f, const char *name, float *out, uint64_t count, err *e);

/* What a tensor may be called: not empty, no control characters (names stand in one-line messages). */
int st_check_name(const char *name, err *e);

/* Writes a whole file at once (atomic); tensors in the order given, metadata: "format": "pt" and what keys[] (ended
 * by NULL) and values[] add. */
int st_write(const char *path, const st_tensor *tensors, size_t n, const char *const keys[], const char *const values[],
             err *e);
#endif
