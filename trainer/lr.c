/* Learning rates; see lr.h. */
#include "trainer/lr.h"

#include <math.h>
#include <string.h>

#include "cluster/base/str.h"

const char *const lr_names[LR_KINDS + 1] = {"constant", "constant_with_warmup", "linear", "cosine", NULL};

int lr_find(const char *name, lr_kind *out, err *e)
{
    for (int i = 0; i < LR_KINDS; i++)
        if (strcmp(lr_names[i], name) == 0) {
            *out = (lr_kind)i;
            return 0;
        }
    const char *near = str_nearest(name, lr_names);
    return err_set(e, ERR_INPUT, "no learning-rate schedule %s (did you mean %s)", name, near ? near : lr_names[0]);
}

double lr_at(lr_kind kind, double base, int warmup, int total, int step)
{
    if (kind == LR_CONSTANT)
        return base;
    if (step < warmup)
        return base * step / warmup;
    if (kind == LR_CONSTANT_WITH_WARMUP)
        return base;
    double done = fmin((double)(step - warmup) / fmax(1, total - warmup), 1);
    return kind == LR_LINEAR ? base * (1 - done) : base * 0.5 * (1 + cos(3.14159265358979323846 * done));
}
