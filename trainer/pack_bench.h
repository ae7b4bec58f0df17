#ifndef PACK_BENCH_H
#define PACK_BENCH_H
/* `cfarm bench --packs FARM.yaml`: of each class of the farm's concepts that may share a worker, how many steps a second one of them
 * takes and several at once do (pack.h), with as many threads as its workers have; kept for the plan (configs/farm_packs.h). */
#include "configs/farmfile.h"

int pack_bench(const farmfile *farm, int threads, FILE *to, err *e);
#endif
