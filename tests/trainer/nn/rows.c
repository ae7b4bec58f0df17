/* The families of rows, and the numbers they are filled with. */
#include "tests/trainer/nn/rows.h"

#include <stdio.h>

#include "trainer/nn/backend.h"

extern const nn_row rows_pointwise[], rows_shape[], rows_reduce[], rows_embed[], rows_loss[], rows_product[],
    rows_norm[], rows_pool[];

const nn_row *const nn_row_families[] = {
    rows_pointwise, rows_shape, rows_reduce, rows_embed, rows_loss, rows_product, rows_norm, rows_pool, NULL,
};

int row_inputs(const nn_row *r)
{
    int n = 0;

    while (n < ROW_INPUTS && r->in[n].n > 0)
        n++;
    return n;
}

nn_tensor row_pull_back(nn_graph *g, nn_tensor y, nn_tensor seed, nn_tensor wrt)
{
    nn_tensor grad = NULL;
    err e;

    CHECK(nn_backward(g, y, seed, &wrt, &grad, 1, &e) == 0);
    return grad;
}

float row_number(uint64_t key, uint64_t i)
{
    uint64_t z = key * 0x9E3779B97F4A7C15u + (i + 1) * 0xBF58476D1CE4E5B9u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (float)((z ^ (z >> 31)) >> 40) / 8388608.0f - 1.0f;
}

void row_fill(void *to, nn_tensor t, uint64_t key)
{
    for (int64_t i = 0; i < nn_count(t->shape); i++)
        if (t->type == I32)
            ((int32_t *)to)[i] = (int32_t)(i * 5 % 9) - 2;
        else
            ((float *)to)[i] = row_number(key, (uint64_t)i);
}

bool row_device_missing(const char *device)
{
    nn_backend *b;
    err e;

    if (!device)
        return false;
    if (nn_open(&b, device, 1, &e) != 0) {
        printf("skipped: %s\n", e.text);
        return true;
    }
    b->close(b);
    return false;
}
