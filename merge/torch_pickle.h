#ifndef TORCH_PICKLE_H
#define TORCH_PICKLE_H
/* The pickle of a torch file as a tree of values. A stack machine of the opcodes that dictionaries of tensors need; it
 * knows six globals, and they are names to it, never code. Source: CPython's pickletools (protocols 2 to 4). */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/dtype.h"
#include "cluster/base/err.h"

typedef enum { PV_NONE, PV_NUMBER, PV_TEXT, PV_TUPLE, PV_LIST, PV_DICT, PV_GLOBAL, PV_STORAGE, PV_TENSOR } pickle_kind;
typedef struct pickle_value pickle_value;
struct pickle_value {
    pickle_kind kind;
    int64_t number;      /* of a number (0 of a fraction); elements of a storage; first element of a tensor */
    char *text;          /* of a text, a global ("torch FloatStorage"), a storage (its key) */
    dtype type;          /* of a storage */
    pickle_value **item; /* of tuples and lists; of dictionaries key, value, key, ...; of a tensor storage, shape,
                            strides */
    size_t n;
};

typedef struct pickle pickle;
/* *root belongs to *out. */
int pickle_read(pickle **out, const pickle_value **root, const unsigned char *at, size_t n, err *e);
void pickle_free(pickle *p);
#endif
