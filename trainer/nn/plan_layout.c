/* Greedy by size: the largest buffer first, each into the smallest gap among those alive beside it that holds it,
 * else behind them. Pisarchyk and Lee 2020 (Efficient Memory Management for Deep Neural Net Inference) found this
 * within a few per cent of the lower bound on the networks of this kind. */
#include "trainer/nn/plan_layout.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

static int larger_first(const void *pa, const void *pb)
{
    const plan_buffer *a = *(plan_buffer *const *)pa, *b = *(plan_buffer *const *)pb;

    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    return a->from != b->from ? (a->from < b->from ? -1 : 1) : (a < b ? -1 : 1);
}

static bool alive_together(const plan_buffer *a, const plan_buffer *b)
{
    return a->from <= b->to && b->from <= a->to;
}

/* placed[] is sorted by place. */
static size_t best_gap(const plan_buffer *b, plan_buffer *const placed[], int n)
{
    size_t end = 0, best = 0, best_room = SIZE_MAX;

    for (int i = 0; i < n; i++) {
        if (!alive_together(b, placed[i]))
            continue;
        size_t room = placed[i]->at > end ? placed[i]->at - end : 0;
        if (room >= b->bytes && room < best_room) {
            best = end;
            best_room = room;
        }
        size_t after = plan_aligned(placed[i]->at + placed[i]->bytes);
        end = after > end ? after : end;
    }
    return best_room == SIZE_MAX ? end : best;
}

static void insert_sorted(plan_buffer *b, plan_buffer *placed[], int n)
{
    int at = n;

    while (at > 0 && placed[at - 1]->at > b->at)
        at--;
    memmove(&placed[at + 1], &placed[at], (size_t)(n - at) * sizeof(plan_buffer *));
    placed[at] = b;
}

size_t plan_layout(plan_buffer *buffers, int n)
{
    plan_buffer **order = NEW_N(plan_buffer *, n + 1), **placed = NEW_N(plan_buffer *, n + 1);
    size_t size = 0;

    for (int i = 0; i < n; i++)
        order[i] = &buffers[i];
    qsort(order, (size_t)n, sizeof(plan_buffer *), larger_first);
    for (int i = 0; i < n; i++) {
        plan_buffer *b = order[i];
        b->at = best_gap(b, placed, i);
        insert_sorted(b, placed, i);
        size_t end = plan_aligned(b->at + b->bytes);
        size = end > size ? end : size;
    }
    free(order);
    free(placed);
    return size;
}
