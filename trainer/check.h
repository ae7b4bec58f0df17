#ifndef CHECK_H
#define CHECK_H
/* `cfarm plan`: everything that can be known to be wrong before the first step, told at once, one line per mistake. */
#include <stdio.h>

#include "configs/farmfile.h"

/* Prints what will run to `out` (a table, or one JSON object) and each mistake to `wrong`; returns how many there are. Trains
 * nothing, writes nothing. */
int check_farm(const farmfile *farm, bool json, FILE *out, FILE *wrong);
#endif
