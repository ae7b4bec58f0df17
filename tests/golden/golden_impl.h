#ifndef GOLDEN_IMPL_H
#define GOLDEN_IMPL_H
/* What golden.c (reading, putting) and golden_judge.c share. */
#include "tests/golden/golden.h"
#include "trainer/nn/backend.h"

typedef enum { KIND_INPUT, KIND_OUTPUT, KIND_DEBUG, KIND_TOLD } golden_kind; /* TOLD: info, unstable: never decides */

typedef struct {
    char *name;
    golden_kind kind;
    const json_t *row;           /* in the .json; NULL for a tokenizer entry */
    st_tensor want;              /* name, shape, type, data */
    int64_t *ids;                /* a tokenizer entry's data */
    bool chosen;                 /* by --only */
    void *got;                   /* computed: f32, or i64 where want is I64; NULL: not (yet) */
    size_t got_count;
} golden_entry;

struct golden {
    golden_opts opts;
    char *dir, *model_dir, *tokenizer_dir;
    json_t *json[GOLDEN_FILES];
    safetensors *tensors[GOLDEN_FILES];
    golden_entry *entry;         /* in the order of names */
    size_t n;
    nn_backend *backend;
    sd *model;
};

golden_entry *golden_find(const golden *g, const char *name);
bool golden_decides(const golden *g, const golden_entry *x);  /* counts for the verdict */
#endif
