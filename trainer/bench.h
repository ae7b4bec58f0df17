#ifndef BENCH_H
#define BENCH_H
/* `cfarm bench`: how long a model's parts take on this machine, what arithmetic they need (nn/flops.h), and which share of
 * the machine's own product of large matrices, measured in the same call, that is. */

/* argv as of main, the verb taken away. Returns an exit status. */
int bench_main(int argc, char **argv);
#endif
