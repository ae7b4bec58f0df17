#ifndef FARM_PACKS_H
#define FARM_PACKS_H
/* What sharing a worker is worth, class by class (worker.h, rule 10): measured by `cfarm bench --packs FARM.yaml`, kept in the farm's
 * folder as packs.json, and read where limits.pack_max is auto. Nothing measured, or for another base: nobody shares. More than have
 * room in a worker's part of the memory are not measured, and the file says what they would take. */
#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/str.h"
#include "configs/farmfile.h"

enum { FARM_PACKS_VERSION = 1 };
#define FARM_PACKS_GAIN 1.03 /* from here on it is worth it */

int farm_packs_path(char out[FS_PATH], const farmfile *f, err *e);
/* How many of this class (check's "alike"; NULL: of the one that gains by most) are to share a worker; 1: none. why, unless NULL,
 * gets the figures, or what is missing, in one sentence. */
int farm_packs(const farmfile *f, const char *alike, str *why);
#endif
