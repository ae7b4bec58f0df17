#ifndef SERVE_H
#define SERVE_H
/* The worker's side of cluster/wire/worker.h. */
#include "cluster/base/json.h"
#include "trainer/train.h"

/* Until the agent says QUIT, or is gone; takes the socket. Returns the exit status. */
int serve(int fd);
/* What DONE says of a training. */
json_t *serve_summary(const train_summary *s);
#endif
