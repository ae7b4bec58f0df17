#ifndef TORCH_H
#define TORCH_H
/* Files of torch.save since 1.6: a zip of a pickle and one raw file per tensor. Tensors in nested dictionaries become a
 * flat list with keys joined by '/' ("unet/down_blocks...", "modifier_token/<new1>"); what such files may hold besides
 * (numbers, texts, empty dictionaries) is passed over and named. The pickle is read by a small machine that knows the
 * few opcodes tensors need; anything else is refused by name, and nothing is ever called. */
#include <stdbool.h>
#include <stddef.h>

#include "cluster/base/err.h"
#include "data/safetensors.h"

typedef struct {
    st_tensor *tensor; /* [n]; names and data belong to this */
    size_t n;
    char **other; /* keys of what is no tensor, ended by NULL */
} torch_file;

int torch_read(torch_file *out, const char *path, err *e);
void torch_free(torch_file *f);
/* F32 tensors; '/' in a name makes dictionaries. As torch.save(..., _use_new_zipfile_serialization=True) does. */
int torch_write(const char *path, const st_tensor tensor[], size_t n, err *e);
/* The same with numbers, texts and empty dictionaries behind the tensors (at most one '/' in a name, which no tensor's begins
 * alike), and a note (NULL: none) as a record of the archive, provenance.json, which torch does not ask for. */
typedef struct {
    const char *name, *text; /* text NULL: the number */
    int32_t number;
    bool empty;              /* a dictionary without anything */
} torch_plain;
int torch_write_with(const char *path, const st_tensor tensor[], size_t n, const torch_plain plain[], size_t plains,
                     const char *note, err *e);
#endif
