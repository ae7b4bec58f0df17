#ifndef NN_PLAN_H
#define NN_PLAN_H
/* A graph made ready for one backend: what keep[] needs and nothing else, kernels chosen, memory laid out by
 * lifetime in one arena. After nn_plan_new a run allocates nothing. */
#include <stdio.h>

#include "trainer/nn/params.h"

typedef struct nn_plan nn_plan;

/* keep[]: tensors whose values can be read after a run; nodes with in_place operations are always run. The graph and
 * the weights must outlive the plan. */
int nn_plan_new(nn_plan **out, const nn_graph *g, nn_params *weights, const nn_tensor keep[], int n, err *e);
/* The same, its temporaries over those of another plan, where they fit: for plans that never run at the same time. `under`
 * must outlive it; what that plan kept, and what was written to it, stays. */
int nn_plan_over(nn_plan **out, const nn_plan *under, const nn_graph *g, nn_params *weights, const nn_tensor keep[], int n, err *e);
void nn_plan_free(nn_plan *p);

/* Inputs are f32 or i32 on the host side as declared; bytes must fit exactly. What is written stays until it is
 * written again. An input that nothing kept depends on may be written and is ignored. */
int nn_write(nn_plan *p, nn_tensor input, const void *from, size_t bytes, err *e);
/* ERR_INPUT while an input that is needed was never written. */
int nn_run(nn_plan *p, err *e);
int nn_read(nn_plan *p, nn_tensor kept, void *to, size_t bytes, err *e);
/* Runs of plans of one backend, one behind the other, begun and not waited for: on a GPU one captured graph, whose inputs
 * cross while the run before is under way. For backends with a `crossing`. */
typedef struct nn_chain nn_chain;
enum { NN_CHAIN_MOST = 4 };
/* They must outlive it, and share its inputs with no other. */
int nn_chain_new(nn_chain **out, nn_plan *const plans[], int n, err *e);
void nn_chain_free(nn_chain *c);
/* The call of a plan after which what lies in [mem, mem + bytes) has its value of the run; the number of calls: after all of them. */
int nn_plan_ready(const nn_plan *p, const void *mem, size_t bytes);
/* Has `act` called between the calls of plan `i`, as soon as what lies in [mem, mem + bytes) has its value of this run, and after
 * what was said before: it may ask the device for more. It is called while runs are put down, not in each. Before the first start. */
typedef int nn_chain_act(void *arg, err *e);
void nn_chain_when(nn_chain *c, int i, const void *mem, size_t bytes, nn_chain_act *act, void *arg);
/* The next run's, all of them each time: they are taken at once. */
int nn_chain_write(nn_chain *c, int i, nn_tensor input, const void *from, size_t bytes, err *e);
int nn_chain_start(nn_chain *c, err *e);
/* nn_read that is begun and not waited for: into pinned memory (nn_crossing), where it is when the backend's wait has returned. */
int nn_tell(const nn_plan *p, nn_tensor kept, void *pinned, size_t bytes, err *e);

/* Makes a run put `kept` into a state of nn_params ("train.g", from element `offset` on). Straight, with no copy and
 * no memory of its own, where a kernel makes exactly this tensor and nothing in the plan reads that state; else by a
 * copy behind the last call. Call before the first run. */
int nn_keep_in(nn_plan *p, nn_tensor kept, const char *state, size_t offset, err *e);
/* The same for a pack's gradient [rows, ...]: each concept's part into its own slot, `apart` elements from the last's. By
 * copies. */
int nn_keep_rows_in(nn_plan *p, nn_tensor kept, int64_t rows, const char *state, size_t offset, size_t apart, err *e);

/* Bytes the arena, scratch, kept tensors, inputs and weights that single calls have laid out take, but for what is another
 * plan's; other weights apart.
 * nn_plan_predict says it without making anything and without loading a weight (nn_keep_in may lower it later), and by how
 * much nn_params_bytes will have grown: plain weights, and layouts that no plan before has asked for. */
size_t nn_plan_bytes(const nn_plan *p);
typedef struct { size_t plan, weights; } nn_plan_size;
int nn_plan_predict(nn_plan_size *out, const nn_graph *g, const nn_params *weights, const nn_tensor keep[], int n, err *e);
/* What each call of such a run would move and multiply, in order; free(*each). Nothing is made, and no weight is loaded. bytes: every
 * source read once and the result written once, as wide as they lie, and what the kernel says that it moves beside. */
typedef struct { const char *kernel; nn_tensor y; double bytes, flops; int launches; bool adds, narrow; } nn_traffic;
int nn_plan_traffic(nn_traffic **each, int *calls, nn_plan_size *size, const nn_graph *g, const nn_params *weights, const nn_tensor keep[], int n,
                    err *e);
/* How many calls a run makes. */
int nn_plan_calls(const nn_plan *p);
void nn_plan_show(const nn_plan *p, FILE *to); /* each call: kernel, shape, bytes, why others were passed over */
/* Makes one run and says how long each call took, in order; free(*each). */
typedef struct { const char *kernel; nn_tensor y; double seconds; } nn_timing;
int nn_plan_times(nn_plan *p, nn_timing **each, int *n, err *e);
/* Makes one run and writes the seconds of each call, in the order of nn_plan_show, as tab-separated rows. */
int nn_plan_time(nn_plan *p, FILE *to, err *e);
#endif
