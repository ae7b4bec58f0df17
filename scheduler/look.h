#ifndef LOOK_H
#define LOOK_H
/* What the commands beside `cfarm train` share: finding a farm, looking at it without touching it, giving it an order,
 * and the words that go with these. */
#include "cluster/base/fs.h"
#include "scheduler/spool.h"

/* The error as the command's last word; the exit status that goes with it. */
int look_complain(const err *e);
/* A farm is named by its folder or by its file. ERR_INPUT: nothing has run there. */
int look_folder(char out[FS_PATH], const char *arg, err *e);
/* Its journal, and the orders that wait, as if they were carried out. */
int look_open(ledger **out, const char *dir, err *e);
/* "2026-11-22T21:04:05.123Z" as milliseconds since 1970; 0: it is none. */
int64_t look_wall_ms(const char *iso);
/* "--json" taken out of argv. */
bool look_json(int *argc, char **argv);

typedef enum { LOOK_TAKEN, LOOK_WAITS, LOOK_RESTS, LOOK_REFUSED } look_fate;
/* Writes the order (taken) and, while the farm runs, waits some seconds for it to be carried out. */
int look_order(look_fate *out, char id[SPOOL_ID], const char *dir, json_t *order, err *e);
const char *look_fate_text(look_fate f);
#endif
