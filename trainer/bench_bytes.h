#ifndef BENCH_BYTES_H
#define BENCH_BYTES_H
/* What a pass moves, multiplies and launches, by kinds of calls, and what that would take on GPUs at the rates of their data sheets: reckoned
 * from the plan, never measured. */
#include "trainer/nn/plan.h"

/* Rows of CSV, the longest first, and a last one of their sums. Calls of nodes behind `last` are the way back; NULL: none is. */
void bench_bytes_show(FILE *to, const nn_traffic *each, int n, nn_tensor last);
#endif
