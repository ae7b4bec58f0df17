/* States, and the block of what is trained. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/params_inside.h"

enum { PIECE_ALIGN = 16 }; /* elements: 64 bytes, as any kernel would like its sources */

/* ---- states ---- */

state *params_find_state(const nn_params *p, const char *name)
{
    for (int i = 0; i < p->state_n; i++)
        if (strcmp(p->states[i].name, name) == 0)
            return &p->states[i];
    return NULL;
}

void params_free_states(nn_params *p)
{
    for (int i = 0; i < p->state_n; i++) {
        p->on->release(p->on, p->states[i].mem);
        free(p->states[i].name);
    }
    free(p->states);
    p->states = NULL;
    p->state_n = 0;
    p->trained = 0;
    p->slots = p->slot = 0;
}

/* In pieces of a mebibyte, as a backend has no zeros of its own. */
static int write_zeros(nn_params *p, void *mem, size_t bytes, err *e)
{
    size_t piece = bytes < 1u << 20 ? bytes : 1u << 20;
    char *zeros = mem_new(piece, 1);
    int rc = 0;

    for (size_t at = 0; at < bytes && rc == 0; at += piece)
        rc = p->on->write(p->on, (char *)mem + at, zeros, bytes - at < piece ? bytes - at : piece, e);
    free(zeros);
    return rc;
}

int nn_params_state(nn_params *p, const char *name, nn_shape s, err *e)
{
    size_t bytes = (size_t)nn_count(s) * sizeof(float);
    void *mem;

    if (params_find_state(p, name))
        return err_set(e, ERR_INPUT, "there is a state called %s already", name);
    TRY(p->on->alloc(p->on, &mem, bytes, e));
    p->states = mem_grow(p->states, (size_t)p->state_n + 1, sizeof *p->states);
    p->states[p->state_n++] = (state){.name = mem_text(name), .shape = s, .mem = mem};
    return write_zeros(p, mem, bytes, e);
}

static int find_state_of(const nn_params *p, const char *name, size_t count, state **out, err *e)
{
    char text[64];

    *out = params_find_state(p, name);
    if (!*out)
        return err_set(e, ERR_INPUT, "there is no state called %s", name);
    if ((size_t)nn_count((*out)->shape) != count)
        return err_set(e, ERR_SHAPE, "state %s is %s and does not fit %zu elements", name,
                       nn_shape_text((*out)->shape, text), count);
    return 0;
}

int nn_params_state_write(nn_params *p, const char *name, const float *from, size_t count, err *e)
{
    state *s;

    TRY(find_state_of(p, name, count, &s, e));
    return p->on->write(p->on, s->mem, from, count * sizeof *from, e);
}

int nn_params_state_read(nn_params *p, const char *name, float *to, size_t count, err *e)
{
    state *s;

    TRY(find_state_of(p, name, count, &s, e));
    return p->on->read(p->on, to, s->mem, count * sizeof *to, e);
}

int nn_params_state_write_at(nn_params *p, const char *name, size_t offset, const float *from, size_t count, err *e)
{
    void *to;

    TRY(nn_params_state_place(p, name, offset, count, &to, e));
    return p->on->write(p->on, to, from, count * sizeof *from, e);
}

int nn_params_state_read_at(nn_params *p, const char *name, size_t offset, float *to, size_t count, err *e)
{
    void *from;

    TRY(nn_params_state_place(p, name, offset, count, &from, e));
    return p->on->read(p->on, to, from, count * sizeof *to, e);
}

int nn_params_state_place(nn_params *p, const char *name, size_t offset, size_t count, void **mem, err *e)
{
    const state *s = params_find_state(p, name);
    char text[64];

    if (!s)
        return err_set(e, ERR_INPUT, "there is no state called %s", name);
    if (offset + count > (size_t)nn_count(s->shape))
        return err_set(e, ERR_SHAPE, "state %s is %s and ends before element %zu", name,
                       nn_shape_text(s->shape, text), offset + count);
    *mem = (float *)s->mem + offset;
    return 0;
}

int params_bind_state(nn_params *p, nn_tensor leaf, void **mem, err *e)
{
    const state *s = params_find_state(p, leaf->name);
    char a[64], b[64];

    if (!s)
        return err_set(e, ERR_INPUT, "there is no state called %s", leaf->name);
    if (!nn_same_shape(s->shape, leaf->shape))
        return err_set(e, ERR_SHAPE, "state %s is %s, the graph asks for %s", leaf->name, nn_shape_text(s->shape, a),
                       nn_shape_text(leaf->shape, b));
    *mem = s->mem;
    return 0;
}

/* ---- the trained block ---- */

static void untrain(nn_params *p)
{
    for (int i = 0; i < p->n; i++)
        p->weights[i].trained_at = NOT_TRAINED;
    p->trained = 0;
    p->slots = p->slot = 0;
}

/* Gives each name its place; the count of the whole block in *count. */
static int lay_out(nn_params *p, const char *const names[], int n, size_t *count, err *e)
{
    *count = 0;
    for (int i = 0; i < n; i++) {
        weight *w;
        TRY(params_find_or_say(p, names[i], &w, e));
        if (w->trained_at != NOT_TRAINED)
            return err_set(e, ERR_INPUT, "%s is to be trained twice", names[i]);
        w->trained_at = (int64_t)*count;
        *count += (params_count_of(w) + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    }
    return *count ? 0 : err_set(e, ERR_INPUT, "there is nothing to train");
}

static int narrow_into_block(nn_params *p, weight *w, void *piece, err *e)
{
    size_t count = params_count_of(w);
    float *host = NULL;

    TRY(mem_big((void **)&host, count * sizeof *host, w->name, e));
    int rc = p->on->read(p->on, host, w->mem, count * sizeof *host, e);
    if (rc == 0)
        rc = params_write(p, piece, true, host, count, e);
    if (rc == 0)
        params_unload(p, w);
    free(host);
    return rc;
}

static int move_into_block(nn_params *p, weight *w, err *e)
{
    void *piece = params_place_of(p, w);

    params_drop_forms(p, w);
    if (!w->mem)
        return params_load_into(p, w, piece, e);
    TRY(p->on->wait(p->on, e));
    if (p->narrow)
        return narrow_into_block(p, w, piece, e);
    if (p->on->copy(p->on, piece, w->mem, params_count_of(w) * sizeof(float)) != 0)
        return err_set(e, ERR_DEVICE, "%s refused a copy", p->on->name);
    TRY(p->on->wait(p->on, e));
    params_unload(p, w);
    return 0;
}

static const char *const BLOCKS[] = {"train.w", "train.g", "train.m", "train.v"};
enum { MOMENTS = 2 };            /* from here on */

void nn_params_moments(nn_params *p, bool eight)
{
    CHECK(!p->trained);
    p->eight = eight;
}

size_t nn_params_moments_count(const nn_params *p)
{
    return p->eight ? (size_t)nn_moments8((int64_t)p->trained) : p->trained;
}

void nn_params_narrow(nn_params *p, bool narrow)
{
    CHECK(!p->trained);
    p->narrow = narrow;
}

size_t nn_params_weights_count(const nn_params *p)
{
    return p->narrow ? p->trained / 2 : p->trained;
}

static void *weights_at(const nn_params *p, size_t at)
{
    return (char *)params_find_state(p, "train.w")->mem + at * (p->narrow ? sizeof(uint16_t) : sizeof(float));
}

int nn_params_weights_read(nn_params *p, size_t at, float *to, size_t count, err *e)
{
    CHECK(at + count <= (size_t)p->slots * p->trained);
    return params_read_back(p, to, weights_at(p, at), p->narrow, count, e);
}

int nn_params_weights_write(nn_params *p, size_t at, const float *from, size_t count, err *e)
{
    CHECK(at + count <= (size_t)p->slots * p->trained);
    return params_write(p, weights_at(p, at), p->narrow, from, count, e);
}

static int make_block(nn_params *p, const char *const names[], int n, int slots, err *e)
{
    size_t count;

    TRY(lay_out(p, names, n, &count, e));
    int64_t all = (int64_t)count, moments = p->eight ? nn_moments8(all) : all;
    const int64_t each[] = {p->narrow ? all / 2 : all, all, moments, moments};
    for (int i = 0; i < 4; i++)
        TRY(nn_params_state(p, BLOCKS[i], NN_SHAPE(slots, each[i]), e));
    for (int i = 0; i < n; i++)
        TRY(move_into_block(p, params_find(p, names[i]), e));
    p->trained = count;
    p->slots = slots;
    return 0;
}

/* The first slot's values into the others. */
static int spread(nn_params *p, err *e)
{
    float *w = params_find_state(p, "train.w")->mem;

    for (int i = 1; i < p->slots; i++)
        if (p->on->copy(p->on, w + (size_t)i * p->trained, w, p->trained * sizeof *w) != 0)
            return err_set(e, ERR_DEVICE, "%s refused a copy", p->on->name);
    return p->on->wait(p->on, e);
}

int nn_params_train_pack(nn_params *p, const char *const names[], int n, int slots, err *e)
{
    CHECK(slots > 0);
    if (p->trained)
        return err_set(e, ERR_INPUT, "there is a trained block already");
    if (p->narrow && slots > 1)
        return err_set(e, ERR_INPUT, "a pack has weights of 32 bits");
    int rc = make_block(p, names, n, slots, e);
    if (rc == 0)
        rc = spread(p, e);
    if (rc != 0)
        untrain(p);
    return rc;
}

int nn_params_train(nn_params *p, const char *const names[], int n, err *e)
{
    return nn_params_train_pack(p, names, n, 1, e);
}

int nn_params_slots(const nn_params *p)
{
    return p->slots;
}

void nn_params_slot(nn_params *p, int slot)
{
    CHECK(slot >= 0 && slot < p->slots);
    p->slot = slot;
}

int nn_params_slot_clear(nn_params *p, err *e)
{
    for (int i = 0; i < 4; i++) {
        size_t count = i < MOMENTS ? p->trained : nn_params_moments_count(p);
        TRY(write_zeros(p, (float *)params_find_state(p, BLOCKS[i])->mem + (size_t)p->slot * count, count * sizeof(float), e));
    }
    for (int i = 0; i < p->n; i++) {
        const weight *w = &p->weights[i];
        if (w->trained_at != NOT_TRAINED && w->file && !w->set)
            TRY(params_load_into(p, w, params_place_of(p, w), e));
    }
    return 0;
}

static bool trained_at(const void *arg, const char *name, size_t *offset)
{
    const weight *w = params_find(arg, name);

    if (!w || w->trained_at == NOT_TRAINED)
        return false;
    *offset = (size_t)w->trained_at;
    return true;
}

nn_pack nn_params_pack(const nn_params *p, int first, int width)
{
    CHECK(width > 0 && first >= 0 && first + width <= p->slots);
    return (nn_pack){.arg = p, .at = trained_at, .slots = p->slots, .first = first, .width = width,
                     .count = (int64_t)p->trained, .narrow = p->narrow};
}

size_t nn_params_trained_count(const nn_params *p)
{
    return p->trained;
}

int nn_params_trained_at(const nn_params *p, const char *name, size_t *offset, size_t *count, err *e)
{
    weight *w;

    TRY(params_find_or_say(p, name, &w, e));
    if (w->trained_at == NOT_TRAINED)
        return err_set(e, ERR_INPUT, "%s is not trained", name);
    *offset = (size_t)w->trained_at;
    *count = params_count_of(w);
    return 0;
}

/* Weights that stood in files come back from there; the others are gone, and the table is made anew. */
void nn_params_reset(nn_params *p)
{
    int kept = 0;

    untrain(p);
    params_free_states(p);
    p->eight = p->narrow = false;
    nn_names_free(&p->index);
    for (int i = 0; i < p->n; i++) {
        weight w = p->weights[i];
        if (w.set) {
            params_unload(p, &w);
            params_drop_forms(p, &w);
        }
        w.set = false;
        if (!w.file && !w.drawn) {
            free(w.name);
            continue;
        }
        nn_names_put(&p->index, w.name, kept);
        p->weights[kept++] = w;
    }
    p->n = kept;
}
