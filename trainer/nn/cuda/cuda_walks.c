/* See cuda_walks.h. */
#include "trainer/nn/cuda/cuda_walks.h"

/* Puts a dimension in front of the walk, or joins it to the one that is there where both are one stretch. */
static void put_before(cuda_walk *w, int64_t d, int64_t step)
{
    if (d == 1)
        return;
    if (w->n > 0 && step == w->d[0] * w->step[0]) {
        w->d[0] *= d;
        return;
    }
    for (int k = w->n++; k > 0; k--) {
        w->d[k] = w->d[k - 1];
        w->step[k] = w->step[k - 1];
    }
    w->d[0] = d;
    w->step[0] = step;
}

cuda_walk cuda_walk_in(const nn_shape *whole, const nn_shape *part)
{
    cuda_walk w = {0};
    int64_t step = 1;

    for (int k = whole->n - 1, p = part->n - 1; k >= 0; k--, p--) {
        bool repeated = p < 0 || part->d[p] == 1;
        put_before(&w, whole->d[k], repeated ? 0 : step);
        step *= repeated ? 1 : part->d[p];
    }
    return w;
}

int64_t cuda_walks_of_sum(const nn_shape *x, const nn_shape *y, cuda_walk *kept, cuda_walk *summed)
{
    int64_t step = 1, many = 1;

    *kept = *summed = (cuda_walk){0};
    for (int k = x->n - 1, p = y->n - 1; k >= 0; k--, p--) {
        bool gone = p < 0 || y->d[p] == 1;
        put_before(gone ? summed : kept, x->d[k], step);
        many *= gone ? x->d[k] : 1;
        step *= x->d[k];
    }
    return many;
}
