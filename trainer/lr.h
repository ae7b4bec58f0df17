#ifndef LR_H
#define LR_H
/* The learning rate of a step: a pure function, as diffusers' schedulers of the same names. */
#include "cluster/base/err.h"

typedef enum { LR_CONSTANT, LR_CONSTANT_WITH_WARMUP, LR_LINEAR, LR_COSINE, LR_KINDS } lr_kind;
/* "constant", ...; [LR_KINDS] is NULL, so the list serves as a setting's choices. */
extern const char *const lr_names[LR_KINDS + 1];
int lr_find(const char *name, lr_kind *out, err *e);

/* step counts updates from 0; warmup, total: in updates. constant: base always (no warm-up). linear, cosine: up over
 * warmup, down to 0 at total. */
double lr_at(lr_kind kind, double base, int warmup, int total, int step);
#endif
