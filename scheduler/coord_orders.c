/* Orders from the spool, carried out by the coordinator: what they change is journalled before they are removed. */
#include <string.h>

#include "cluster/base/clock.h"
#include "scheduler/coord_impl.h"
#include "scheduler/spool.h"

static const int64_t LOOK_EVERY = 20000000;

static int on_step(void *arg, const sched_event *ev, err *e)
{
    sched_event now = *ev;

    now.now_ms = coord_now_ms();
    now.more = true; /* all of a table is in the line before the shortest of it starts */
    return coord_try(arg, &now, e);
}

/* A table of thousands is one line; what could not be taken has its own. */
static void on_tell(void *arg, const char *word, const char *name, bool changed, const char *text)
{
    coordinator *c = arg;

    if (strcmp(word, "add") == 0 && changed)
        c->added++;
    else
        log_event(c->how->log, "order", TEXT("to", word), TEXT("name", name), INT("changed", changed), TEXT("now", text));
}

static void on_farm_word(void *arg, const char *word)
{
    coord_stop(arg, strcmp(word, "drain") == 0 ? LEVEL_DRAIN : LEVEL_HALT);
}

void orders_tick(coordinator *c)
{
    spool_hands hands = {.step = on_step, .tell = on_tell, .farm_word = on_farm_word, .arg = c};
    err e = {0};

    if (clock_ns() - c->spool_ns < LOOK_EVERY) /* a busy coordinator has very many turns */
        return;
    c->spool_ns = clock_ns();
    if (spool_waiting(c->l->dir) == 0)
        return;
    c->added = 0;
    if (spool_take(c->l, &hands, &e) != 0)
        coord_fail(c, &e);
    coord_step(c, &(sched_event){.type = EV_TICK, .now_ms = coord_now_ms()});
    if (c->added > 0)
        log_event(c->how->log, "added", INT("concepts", c->added), INT("of", c->s->jobs - c->s->count[JOB_CANCELLED]));
}
