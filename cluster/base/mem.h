#ifndef CF_MEM_H
#define CF_MEM_H
/* Small host allocations abort when refused: without a few kilobytes nothing can go on. What
 * may be large (tensors, pictures, files) goes through mem_big and can be refused politely. */
#include <stddef.h>

#include "cluster/base/err.h"

void *mem_new(size_t n, size_t size);            /* n zeroed elements; free() it */
void *mem_grow(void *p, size_t n, size_t size);  /* realloc to n elements; new ones are not zeroed */
char *mem_text(const char *s);                   /* strdup; NULL stays NULL */
void *mem_copy(const void *p, size_t bytes);

/* 64-byte aligned, not zeroed, freed by free(). ERR_MEMORY names what, the size wanted and the size free. */
int mem_big(void **out, size_t bytes, const char *what, err *e);
/* A hint for what will be touched whole at once: where the system hands out large pages, a tenth of the faults. */
void mem_whole(void *p, size_t bytes);
size_t mem_free_bytes(void);                     /* what the machine could still give (MemAvailable, cgroup limit) */
size_t mem_free_under(const char *root);         /* the same, by the files root/proc and root/sys (a test's own) */

#define NEW(T) ((T *)mem_new(1, sizeof(T)))
#define NEW_N(T, n) ((T *)mem_new((size_t)(n), sizeof(T)))
#endif
