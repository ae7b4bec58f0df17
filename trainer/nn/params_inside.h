#ifndef PARAMS_INSIDE_H
#define PARAMS_INSIDE_H
/* Weights and states as their own files see them: params.c knows names and values, params_train.c states and what is
 * trained. A weight of a file stays in the file until somebody binds or trains it; a trained one lives in "train.w"
 * from then on and nowhere else. */
#include <pthread.h>

#include "data/safetensors.h"
#include "trainer/nn/names.h"
#include "trainer/nn/params.h"

enum { NOT_TRAINED = -1 };

/* A frozen weight as one kind of kernel wants it. */
typedef struct {
    void *key, *mem;
    size_t key_bytes, bytes;
} weight_form;

typedef struct {
    char *name;
    const safetensors *file; /* NULL: drawn, or only set by the caller */
    const char *file_name;   /* the name without prefix */
    nn_shape shape;          /* as in files */
    void *mem;               /* in the backend, in the graph's layout; NULL: not loaded, or trained */
    bool set;                /* the value is the caller's */
    bool drawn;              /* random, made anew whenever it is asked for */
    int users;               /* plans that read mem */
    weight_form *forms;
    int form_n;
    int64_t trained_at;      /* element of a slot of train.w */
} weight;

typedef struct {
    char *name;
    nn_shape shape;
    void *mem;
} state;

struct nn_params {
    nn_backend *on;
    weight *weights;
    int n, room;
    nn_names index; /* name -> place in weights */
    state *states;
    int state_n;
    bool eight;     /* moments of the trained block are of 8 bits */
    bool narrow;    /* its weights are of bf16 */
    size_t trained; /* elements of a slot of the trained block; 0: there is none */
    int slots, slot; /* concepts side by side, and the open one */
    pthread_mutex_t making; /* one plan at a time takes weights and gives them back */
    float *wide;    /* where values are converted on their way into a layout; while `making` is held */
    size_t wide_n;
};

weight *params_find(const nn_params *p, const char *name); /* NULL: unknown */
int params_find_or_say(const nn_params *p, const char *name, weight **out, err *e);
size_t params_count_of(const weight *w);
bool params_is_narrow(const nn_params *p, const weight *w); /* its value lies in train.w as bf16 */
void params_unload(nn_params *p, weight *w);
void params_drop_forms(nn_params *p, weight *w);
/* Whether the value can be had again after params_unload. */
bool params_comes_back(const weight *w);
/* The value as the file has it, on the host. */
int params_read(const weight *w, float *host, err *e);
/* count numbers between the host and the backend, as f32 there or narrow: as bf16, to nearest. */
enum { NARROW_PART = 1 << 12 };
int params_write(nn_params *p, void *mem, bool narrow, const float *from, size_t count, err *e);
int params_read_back(nn_params *p, float *to, const void *mem, bool narrow, size_t count, err *e);
/* The value the file has, into backend memory. */
int params_load_into(nn_params *p, const weight *w, void *mem, err *e);
/* Where its value lies in the backend: memory of its own or a piece of train.w; NULL: in the file only. */
void *params_place_of(const nn_params *p, const weight *w);

state *params_find_state(const nn_params *p, const char *name);
int params_bind_state(nn_params *p, nn_tensor leaf, void **mem, err *e);
void params_free_states(nn_params *p);
#endif
