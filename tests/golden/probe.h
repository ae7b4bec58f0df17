#ifndef PROBE_H
#define PROBE_H
/* A graph whose tensors are read under the names of entries:
 *
 *   probe *p = probe_new(g, model);
 *   nn_tensor x = probe_input(p, nn_input(probe_graph(p), ...), data);      data is taken over
 *   nn_tensor eps = sd_unet_write(probe_graph(p), ...);
 *   probe_keep(p, "unet/eps", eps);
 *   probe_wrt(p, "unet/grad_context", text);   probe_wrt_params(p, "unet/grad/", "unet.");
 *   probe_debug(p, "unet/debug/", "unet.", 0);
 *   rc = probe_backward(p, loss, NULL, e);     if (rc == 0) rc = probe_run(p, e);
 *   probe_free(p);
 *
 * Only what is wanted is kept. Maps and weights of convolutions are turned into the golden's layout. */
#include "tests/golden/golden.h"

typedef struct probe probe;
probe *probe_new(golden *g, sd *m);
void probe_free(probe *p);
nn_graph *probe_graph(probe *p);

/* Takes data (from malloc), of the input's size; returns t. */
nn_tensor probe_input(probe *p, nn_tensor t, void *data);
void probe_keep(probe *p, const char *name, nn_tensor t);
/* d(loss)/d(t) under this name, once probe_backward has written it. */
void probe_wrt(probe *p, const char *name, nn_tensor t);
/* For every wanted entry PREFIX + NAME: the gradient of the parameter SCOPE + NAME. */
void probe_wrt_params(probe *p, const char *prefix, const char *scope);
/* For every wanted entry PREFIX + NAME: what the module SCOPE + NAME gives, of batch item `item`. Call it once the
 * forward graph is written and before anything else is. */
void probe_debug(probe *p, const char *prefix, const char *scope, int64_t item);

int probe_backward(probe *p, nn_tensor loss, nn_tensor seed, err *e);
int probe_run(probe *p, err *e);
#endif
