#ifndef PLAN_LAYOUT_H
#define PLAN_LAYOUT_H
/* Places buffers in one arena: two that are alive at the same time never overlap. */
#include <stddef.h>

typedef struct {
    size_t bytes;
    int from, to; /* the first and the last call that touches it, both included */
    size_t at;    /* set by plan_layout: where it begins, a multiple of PLAN_ALIGN */
} plan_buffer;

enum { PLAN_ALIGN = 64 };
static inline size_t plan_aligned(size_t bytes)
{
    return (bytes + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
}

/* Returns the arena's size. Depends on nothing but its arguments. */
size_t plan_layout(plan_buffer *buffers, int n);
#endif
