#ifndef PUBLISH_H
#define PUBLISH_H
/* A result gets its name exactly once: FARM/obj/<aa>/<sha256>.h5 holds the bytes, FARM/out/<name>.h5 is a hard link to
 * it. Content address (same bits, same place) + link (one name, one winner) make doing it twice harmless. */
#include "cluster/base/err.h"
#include "cluster/base/fs.h"
#include "cluster/base/hash.h"

/* Where an attempt writes: in the farm's obj/, so that publishing is a rename. */
int publish_aside(char out[FS_PATH], const char *farm, const char *name, int attempt, err *e);
/* aside (written and synced, with this hash) gets its address and its name; it is gone afterwards, whatever happens.
 * ERR_PEER: the name is taken by other bytes, nothing is changed. */
int publish(const char *farm, const char *aside, const char *sha256, const char *name, err *e);
/* Its name and its address; ERR_PEER: the hash is none. */
int publish_names(char out[FS_PATH], char object[FS_PATH], const char *farm, const char *name, const char *sha256, err *e);
/* Is FARM/out/<name>.h5 a result as publish() leaves it? Then its hash; "" when there is none. */
int publish_find(const char *farm, const char *name, char sha256[HASH_HEX], err *e);
/* Removes what dead attempts left aside. Nobody may be writing. */
int publish_sweep(const char *farm, err *e);
/* The part of it that is about where gangs over several nodes meet: whoever was killed on his way there. */
void publish_sweep_gangs(const char *farm);
#endif
