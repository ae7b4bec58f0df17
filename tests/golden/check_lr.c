/* Learning rates: base rate 1, warm-up 5, total 30, as golden/README.md says. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "tests/golden/golden.h"
#include "trainer/lr.h"

int check_lr(golden *g, err *e)
{
    (void)e;
    for (lr_kind kind = 0; kind < LR_KINDS; kind++) {
        const st_tensor *t;
        str name = {0};

        str_add(&name, "lr/%s", lr_names[kind]);
        if (golden_wants(g, name.at) && golden_tensor(g, name.at, &t, NULL) == 0) {
            float *rates = NEW_N(float, t->count);
            for (uint64_t i = 0; i < t->count; i++)
                rates[i] = (float)lr_at(kind, 1, 5, 30, (int)i);
            golden_put(g, name.at, rates, t->count);
            free(rates);
        }
        str_free(&name);
    }
    return 0;
}
