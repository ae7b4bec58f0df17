#ifndef WASTE_H
#define WASTE_H
/* Where the time of the slots went. Each second of each slot that is up is in exactly one of these, so that the shares add up
 * to the whole. Pure. */
#include "cluster/base/json.h"

typedef enum {
    WASTE_TRAIN,      /* steps that count */
    WASTE_LOAD,       /* workers that start, concepts that are loaded */
    WASTE_REDUCE,     /* members of a gang that add up their gradients, or wait for each other */
    WASTE_RESIZE,     /* stopped and begun again, with another gang or out of a pack */
    WASTE_CHECKPOINT, /* checkpoints and results on their way out */
    WASTE_NO_WORK,    /* free, and nothing waits */
    WASTE_SCHEDULER,  /* free, although something waits */
    WASTE_LOST,       /* steps that had to be done again, workers that had to be started again, slots that are down */
    WASTES
} waste_kind;

typedef struct { double seconds[WASTES]; } waste;

const char *waste_word(waste_kind k);  /* for programs: "idle_no_work" */
const char *waste_text(waste_kind k);  /* for people: "idle, no work" */
double waste_total(const waste *w);
double waste_share(const waste *w, waste_kind k); /* of the whole; 0 where there is none */
/* What was counted as training has to be done again; never more than was counted. */
void waste_lose(waste *w, double seconds);
json_t *waste_json(const waste *w);    /* seconds by word */
#endif
