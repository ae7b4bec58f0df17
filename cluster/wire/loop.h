#ifndef CF_LOOP_H
#define CF_LOOP_H
/* One thread, many descriptors: an epoll loop with a function for each. A descriptor may be dropped, and closed, from
 * within any of the functions. */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/err.h"

typedef struct loop loop;
typedef void loop_fn(void *arg, bool readable, bool writable);

loop *loop_new(void);
void loop_free(loop *l);
void loop_add(loop *l, int fd, loop_fn *fn, void *arg); /* told when there is something to read, or it has ended */
void loop_write(loop *l, int fd, bool want);            /* told also when it takes bytes again */
void loop_drop(loop *l, int fd);                        /* before it is closed */
void loop_turn(loop *l, int timeout_ms);                /* waits once, and calls for all that is ready */

/* These signals, blocked for the process from now on, arrive at fn; -1 ends the list. */
typedef void loop_signal_fn(void *arg, int signal);
void loop_signals(loop *l, loop_signal_fn *fn, void *arg, const int *signals);
#endif
