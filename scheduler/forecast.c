#include "scheduler/forecast.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

static int by_turn(const void *a, const void *b)
{
    const forecast_work *x = a, *y = b;

    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    if (x->samples != y->samples)
        return x->samples < y->samples ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int first_free(const double *until, int slots)
{
    int best = 0;

    for (int i = 1; i < slots; i++)
        if (until[i] < until[best])
            best = i;
    return best;
}

/* What does not fit begins all the same and is kept, so its slot has no time for others. */
size_t forecast(forecast_work *work, size_t n, int slots, double seconds, double sample)
{
    double *until = NEW_N(double, slots);
    size_t fit = 0;

    qsort(work, n, sizeof *work, by_turn);
    for (size_t i = 0; i < n; i++) {
        int s = first_free(until, slots);
        until[s] += work[i].samples * sample;
        work[i].fits = until[s] <= seconds;
        fit += work[i].fits;
    }
    free(until);
    return fit;
}
