#ifndef TRAIN_KIT_H
#define TRAIN_KIT_H
/* Short trainings of the embedded model, alone or in a gang, into files of a scratch folder, where the cache folder is, too. */
#include "cluster/base/hash.h"
#include "trainer/train.h"

typedef struct {
    const char *more;        /* YAML beside the common settings: a mug, batch 4, 6 steps */
    const char *model;       /* its folder; NULL: the embedded one */
    int stop_after;          /* steps; 0: never */
    int who_stops;           /* rank; 0 */
    const char *keep;        /* the checkpoint of where it stops goes there */
    const char *from;        /* and is taken up from there */
    const char *out;         /* in the scratch folder */
} kit_run;

int kit_open(void **state);
int kit_close(void **state);
const char *kit_path(const char *name);      /* in the scratch folder; good for four more calls */
const char *kit_model(void);                 /* the embedded model, as a folder of the scratch folder */
train_summary kit_train(kit_run o);          /* an error fails the test */
int kit_try(kit_run o, train_summary *sum, err *e);
void kit_train_gang(int size, kit_run o);    /* of processes */
void kit_digest(const char *name, char hex[HASH_HEX]);
void kit_assert_same(const char *a, const char *b);
#endif
