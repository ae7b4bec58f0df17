#ifndef NN_PARAMS_H
#define NN_PARAMS_H
/* Weights by name, in a backend's memory, shared by every plan on that backend. Files are opened once and a
 * tensor is read, converted to f32 and turned ([o,i,h,w] -> [o,h,w,i]) when a plan first asks for it.
 *
 * What is trained lies in one contiguous f32 block, its gradient in another of the same order: one AdamW call,
 * one all-reduce, one checkpoint write. */
#include "trainer/nn/backend.h"

struct safetensors;
typedef struct nn_params nn_params;

nn_params *nn_params_new(nn_backend *b);
void nn_params_free(nn_params *p);

/* Every tensor of the file becomes known as PREFIX + its name ("unet." + "conv_in.weight"); the file must outlive p.
 * ERR_INPUT when a name is known already. */
int nn_params_add_file(nn_params *p, const struct safetensors *f, const char *prefix, err *e);
/* A random weight of this shape (as in a graph), for measuring: the same numbers always, of a size that keeps what passes
 * through the layer about as large as it was. Like a file's one it takes memory when a plan first asks for it. */
int nn_params_add_drawn(nn_params *p, const char *name, nn_shape graph_shape, err *e);
/* A tensor of the caller's: copied; shape as in files ([o,i,h,w] for 4-D). Replaces a file's one of the same name, or
 * what was set before in the same shape; where plans use it already, only a trained one may be set. */
int nn_params_set(nn_params *p, const char *name, nn_shape file_shape, const float *data, err *e);
bool nn_params_has(const nn_params *p, const char *name);
/* The host copy in file layout; *out has nn_count floats. Works for any known name. */
int nn_params_get(nn_params *p, const char *name, float *out, size_t count, err *e);
int nn_params_shape(const nn_params *p, const char *name, nn_shape *file_shape, err *e);
/* Names in a stable order (files in order of adding, then set ones); NULL past the end. */
const char *nn_params_name(const nn_params *p, size_t i);

/* Moves these into the trained block, in this order, before any plan that uses them is made. States "train.w",
 * "train.g", "train.m", "train.v" then exist with shape [1, count] (g, m, v zero); a plan's nn_param of a trained
 * name is a piece of "train.w". Each piece begins at a multiple of 16 elements (64 bytes); what lies between is zero
 * and stays so. ERR_INPUT when there is a trained block already; after any
 * error p is good for nn_params_reset and nn_params_free only. */
int nn_params_train(nn_params *p, const char *const names[], int n, err *e);
/* Whether "train.m" and "train.v" are of 8 bits (nn_moments8); to be said before there is a trained block, else 32. */
void nn_params_moments(nn_params *p, bool eight);
size_t nn_params_moments_count(const nn_params *p); /* elements each has for one slot */
/* Whether "train.w" is of 16 bits, bf16, two to an element; to be said as early, else 32. A value is then rounded when it moves
 * into the block; graphs read it through nn_pack, names and the functions below as floats. One slot only. */
void nn_params_narrow(nn_params *p, bool narrow);
size_t nn_params_weights_count(const nn_params *p); /* elements "train.w" has for one slot */
int nn_params_weights_read(nn_params *p, size_t at, float *to, size_t count, err *e); /* numbers at .. of all slots */
int nn_params_weights_write(nn_params *p, size_t at, const float *from, size_t count, err *e);
size_t nn_params_trained_count(const nn_params *p);  /* of one concept */

/* The same for a pack: `slots` blocks behind each other, one a concept, states [slots, count]; every slot begins with the
 * values that the names have now. */
int nn_params_train_pack(nn_params *p, const char *const names[], int n, int slots, err *e);
int nn_params_slots(const nn_params *p);             /* 0: nothing is trained */
/* Whose values nn_params_get and nn_params_set mean for a trained name, and the nn_param of a plan made from now on; 0 at
 * first. Not while another thread asks by name. */
void nn_params_slot(nn_params *p, int slot);
/* The open slot anew, for its next concept: g, m and v zero, w as the files have it; what the caller had set (a row of a
 * token, factors) is zero and to be set again. */
int nn_params_slot_clear(nn_params *p, err *e);
/* For graphs over several slots at once (nn_pack_set): `width` neighbours from `first` on. */
nn_pack nn_params_pack(const nn_params *p, int first, int width);
/* Where a trained tensor lies in the block, in elements; its layout there is the graph's ([o,h,w,i]). */
int nn_params_trained_at(const nn_params *p, const char *name, size_t *offset, size_t *count, err *e);
bool nn_params_is_trained(const nn_params *p, const char *name);
/* Forgets the trained block, every state and every nn_params_set tensor: the files' weights are back, and those
 * loaded stay loaded. For a warm worker that takes its next concept. No plan may be alive. */
void nn_params_reset(nn_params *p);

/* A state of the caller's own (zeroed), for update graphs. ERR_INPUT when the name is taken. */
int nn_params_state(nn_params *p, const char *name, nn_shape s, err *e);
int nn_params_state_write(nn_params *p, const char *name, const float *from, size_t count, err *e);
int nn_params_state_read(nn_params *p, const char *name, float *to, size_t count, err *e);
/* A piece of it; from several threads at once where the pieces are apart. */
int nn_params_state_write_at(nn_params *p, const char *name, size_t offset, const float *from, size_t count, err *e);
int nn_params_state_read_at(nn_params *p, const char *name, size_t offset, float *to, size_t count, err *e);

/* For plan.c: backend memory of a param or state node, loaded when it is not yet there; frozen: never changes.
 * A weight fits when its shape, turned, is the node's; dimensions of 1 are not compared. */
int nn_params_bind(nn_params *p, nn_tensor leaf, void **mem, bool *frozen, err *e);
/* The same without loading it: checks name and shape, says whether it is frozen; then nn_params_hold when its plain values
 * are needed after all, and nn_params_let_go once for each hold. */
int nn_params_look(nn_params *p, nn_tensor leaf, bool *frozen, err *e);
int nn_params_hold(nn_params *p, nn_tensor leaf, void **mem, err *e);
void nn_params_let_go(nn_params *p, nn_tensor leaf);
/* Between these, for plan.c: one thread's plan takes weights or gives them back. */
void nn_params_lock(nn_params *p);
void nn_params_unlock(nn_params *p);
/* For kernels: a frozen weight in a layout of their own, made once and shared by all plans from then on. The plain values
 * leave memory where they can be read again and no plan holds them. (nn_form: backend.h) */
int nn_params_form(nn_params *p, nn_tensor leaf, const nn_form *form, void **mem, err *e);
/* For nn_plan_predict: whether a plan has asked for this layout before, and what the plain values would take yet. */
bool nn_params_has_form(const nn_params *p, nn_tensor leaf, const void *key, size_t key_bytes);
size_t nn_params_plain_bytes(const nn_params *p, nn_tensor leaf);
/* Bytes of all weights in memory, in whatever layout, and of states. */
size_t nn_params_bytes(const nn_params *p);
/* For plan.c: where a state's elements [offset, offset + count) lie. */
int nn_params_state_place(nn_params *p, const char *name, size_t offset, size_t count, void **mem, err *e);
nn_backend *nn_params_backend(const nn_params *p);
#endif
