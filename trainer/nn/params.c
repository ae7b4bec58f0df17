/* Weights and states by name. A weight of a file stays in the file until somebody binds or trains it; a trained one
 * lives in "train.w" from then on and nowhere else. */
#include "trainer/nn/params.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"
#include "trainer/nn/names.h"
#include "trainer/nn/params_layout.h"

enum { NOT_TRAINED = -1, PIECE_ALIGN = 16 };

typedef struct {
    char *name;
    const safetensors *file; /* NULL: only set by the caller */
    const char *file_name;   /* the name without prefix */
    nn_shape shape;          /* as in files */
    void *mem;               /* in the backend, in the graph's layout; NULL: not loaded, or trained */
    bool set;                /* the value is the caller's */
    int64_t trained_at;      /* element of train.w */
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
    size_t trained; /* elements of the trained block; 0: there is none */
};

nn_params *nn_params_new(nn_backend *b)
{
    nn_params *p = NEW(nn_params);

    p->on = b;
    return p;
}

nn_backend *nn_params_backend(const nn_params *p)
{
    return p->on;
}

static void unload(nn_params *p, weight *w)
{
    if (w->mem)
        p->on->release(p->on, w->mem);
    w->mem = NULL;
}

static void free_states(nn_params *p)
{
    for (int i = 0; i < p->state_n; i++) {
        p->on->release(p->on, p->states[i].mem);
        free(p->states[i].name);
    }
    free(p->states);
    p->states = NULL;
    p->state_n = 0;
    p->trained = 0;
}

void nn_params_free(nn_params *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n; i++) {
        unload(p, &p->weights[i]);
        free(p->weights[i].name);
    }
    free_states(p);
    free(p->weights);
    nn_names_free(&p->index);
    free(p);
}

/* ---- finding ---- */

static weight *find(const nn_params *p, const char *name)
{
    int at = nn_names_find(&p->index, name);

    return at < 0 ? NULL : &p->weights[at];
}

static int unknown(const nn_params *p, const char *name, err *e)
{
    const char **known = NEW_N(const char *, p->n + 1);

    for (int i = 0; i < p->n; i++)
        known[i] = p->weights[i].name;
    const char *near = str_nearest(name, known);
    free(known);
    if (near)
        return err_set(e, ERR_INPUT, "the model's files have no %s; the nearest name is %s", name, near);
    return err_set(e, ERR_INPUT, "the model's files have no %s", name);
}

static int find_or_say(const nn_params *p, const char *name, weight **out, err *e)
{
    *out = find(p, name);
    return *out ? 0 : unknown(p, name, e);
}

static state *find_state(const nn_params *p, const char *name)
{
    for (int i = 0; i < p->state_n; i++)
        if (strcmp(p->states[i].name, name) == 0)
            return &p->states[i];
    return NULL;
}

bool nn_params_has(const nn_params *p, const char *name)
{
    return find(p, name) != NULL;
}

const char *nn_params_name(const nn_params *p, size_t i)
{
    return i < (size_t)p->n ? p->weights[i].name : NULL;
}

int nn_params_shape(const nn_params *p, const char *name, nn_shape *file_shape, err *e)
{
    weight *w;

    TRY(find_or_say(p, name, &w, e));
    *file_shape = w->shape;
    return 0;
}

bool nn_params_is_trained(const nn_params *p, const char *name)
{
    const weight *w = find(p, name);

    return w && w->trained_at != NOT_TRAINED;
}

/* ---- adding ---- */

static weight *add(nn_params *p, char *name, nn_shape shape)
{
    if (p->n == p->room) {
        p->room = p->room ? 2 * p->room : 256;
        p->weights = mem_grow(p->weights, (size_t)p->room, sizeof *p->weights);
    }
    weight *w = &p->weights[p->n];
    *w = (weight){.name = name, .shape = shape, .trained_at = NOT_TRAINED};
    nn_names_put(&p->index, name, p->n++);
    return w;
}

static int add_tensor(nn_params *p, const safetensors *f, const st_tensor *t, const char *prefix, err *e)
{
    str name = {0};

    if (t->n > NN_MAX_DIM)
        return err_set(e, ERR_INPUT, "%s: %s has %d dimensions, at most %d are read", st_path(f), t->name, t->n,
                       NN_MAX_DIM);
    str_add(&name, "%s%s", prefix, t->name);
    if (find(p, name.at)) {
        int rc = err_set(e, ERR_INPUT, "%s: %s stands in a file added before", st_path(f), name.at);
        str_free(&name);
        return rc;
    }
    weight *w = add(p, name.at, nn_shape_of(t->d, (size_t)t->n));
    w->file = f;
    w->file_name = t->name;
    return 0;
}

int nn_params_add_file(nn_params *p, const safetensors *f, const char *prefix, err *e)
{
    for (size_t i = 0; i < st_count(f); i++)
        TRY(add_tensor(p, f, st_at(f, i), prefix, e));
    return 0;
}

/* ---- moving values between host (file layout) and backend (graph layout) ---- */

static size_t count_of(const weight *w)
{
    return (size_t)nn_count(w->shape);
}

static int write_turned(nn_params *p, void *mem, nn_shape shape, const float *from, err *e)
{
    size_t bytes = (size_t)nn_count(shape) * sizeof(float);
    float *turned = NULL;

    if (!nn_layout_turns(shape))
        return p->on->write(p->on, mem, from, bytes, e);
    TRY(mem_big((void **)&turned, bytes, "a weight", e));
    nn_layout_to_graph(turned, from, shape);
    int rc = p->on->write(p->on, mem, turned, bytes, e);
    free(turned);
    return rc;
}

static int read_turned(nn_params *p, float *to, const void *mem, nn_shape shape, err *e)
{
    size_t bytes = (size_t)nn_count(shape) * sizeof(float);
    float *turned = NULL;

    if (!nn_layout_turns(shape))
        return p->on->read(p->on, to, mem, bytes, e);
    TRY(mem_big((void **)&turned, bytes, "a weight", e));
    int rc = p->on->read(p->on, turned, mem, bytes, e);
    if (rc == 0)
        nn_layout_to_file(to, turned, shape);
    free(turned);
    return rc;
}

/* The file's value into mem. */
static int load_into(nn_params *p, const weight *w, void *mem, err *e)
{
    float *host = NULL;

    TRY(mem_big((void **)&host, count_of(w) * sizeof(float), w->name, e));
    int rc = st_read_f32(w->file, w->file_name, host, count_of(w), e);
    if (rc == 0)
        rc = write_turned(p, mem, w->shape, host, e);
    free(host);
    return rc;
}

static int load(nn_params *p, weight *w, err *e)
{
    if (w->mem)
        return 0;
    TRY(p->on->alloc(p->on, &w->mem, count_of(w) * sizeof(float), e));
    int rc = load_into(p, w, w->mem, e);
    if (rc != 0)
        unload(p, w);
    return rc;
}

static float *state_at(const nn_params *p, const char *name, int64_t element)
{
    return (float *)find_state(p, name)->mem + element;
}

static void *place_of(const nn_params *p, const weight *w)
{
    return w->trained_at == NOT_TRAINED ? w->mem : state_at(p, "train.w", w->trained_at);
}

int nn_params_set(nn_params *p, const char *name, nn_shape file_shape, const float *data, err *e)
{
    weight *w = find(p, name);
    char a[64], b[64];

    if (w && !nn_same_shape(w->shape, file_shape))
        return err_set(e, ERR_SHAPE, "%s is %s and cannot be set to %s", name, nn_shape_text(w->shape, a),
                       nn_shape_text(file_shape, b));
    if (!w)
        w = add(p, mem_text(name), file_shape);
    if (!place_of(p, w))
        TRY(p->on->alloc(p->on, &w->mem, count_of(w) * sizeof(float), e));
    w->set = true;
    return write_turned(p, place_of(p, w), w->shape, data, e);
}

int nn_params_get(nn_params *p, const char *name, float *out, size_t count, err *e)
{
    weight *w;
    char text[64];

    TRY(find_or_say(p, name, &w, e));
    if (count != count_of(w))
        return err_set(e, ERR_SHAPE, "%s is %s and does not fit %zu elements", name, nn_shape_text(w->shape, text),
                       count);
    if (!place_of(p, w))
        return st_read_f32(w->file, w->file_name, out, count, e);
    return read_turned(p, out, place_of(p, w), w->shape, e);
}

/* ---- states ---- */

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

    if (find_state(p, name))
        return err_set(e, ERR_INPUT, "there is a state called %s already", name);
    TRY(p->on->alloc(p->on, &mem, bytes, e));
    p->states = mem_grow(p->states, (size_t)p->state_n + 1, sizeof *p->states);
    p->states[p->state_n++] = (state){.name = mem_text(name), .shape = s, .mem = mem};
    return write_zeros(p, mem, bytes, e);
}

static int find_state_of(const nn_params *p, const char *name, size_t count, state **out, err *e)
{
    char text[64];

    *out = find_state(p, name);
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

int nn_params_state_place(nn_params *p, const char *name, size_t offset, size_t count, void **mem, err *e)
{
    const state *s = find_state(p, name);
    char text[64];

    if (!s)
        return err_set(e, ERR_INPUT, "there is no state called %s", name);
    if (offset + count > (size_t)nn_count(s->shape))
        return err_set(e, ERR_SHAPE, "state %s is %s and ends before element %zu", name,
                       nn_shape_text(s->shape, text), offset + count);
    *mem = (float *)s->mem + offset;
    return 0;
}

/* ---- the trained block ---- */

static void untrain(nn_params *p)
{
    for (int i = 0; i < p->n; i++)
        p->weights[i].trained_at = NOT_TRAINED;
    p->trained = 0;
}

/* Gives each name its place; the count of the whole block in *count. */
static int lay_out(nn_params *p, const char *const names[], int n, size_t *count, err *e)
{
    *count = 0;
    for (int i = 0; i < n; i++) {
        weight *w;
        TRY(find_or_say(p, names[i], &w, e));
        if (w->trained_at != NOT_TRAINED)
            return err_set(e, ERR_INPUT, "%s is to be trained twice", names[i]);
        w->trained_at = (int64_t)*count;
        *count += (count_of(w) + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    }
    return *count ? 0 : err_set(e, ERR_INPUT, "there is nothing to train");
}

static int move_into_block(nn_params *p, weight *w, err *e)
{
    void *piece = place_of(p, w);

    if (!w->mem)
        return load_into(p, w, piece, e);
    TRY(p->on->wait(p->on, e));
    if (p->on->copy(p->on, piece, w->mem, count_of(w) * sizeof(float)) != 0)
        return err_set(e, ERR_DEVICE, "%s refused a copy", p->on->name);
    TRY(p->on->wait(p->on, e));
    unload(p, w);
    return 0;
}

static int make_block(nn_params *p, const char *const names[], int n, err *e)
{
    size_t count;

    TRY(lay_out(p, names, n, &count, e));
    for (int i = 0; i < 4; i++)
        TRY(nn_params_state(p, (const char *const[]){"train.w", "train.g", "train.m", "train.v"}[i],
                            NN_SHAPE(1, (int64_t)count), e));
    for (int i = 0; i < n; i++)
        TRY(move_into_block(p, find(p, names[i]), e));
    p->trained = count;
    return 0;
}

int nn_params_train(nn_params *p, const char *const names[], int n, err *e)
{
    if (p->trained)
        return err_set(e, ERR_INPUT, "there is a trained block already");
    int rc = make_block(p, names, n, e);
    if (rc != 0)
        untrain(p);
    return rc;
}

size_t nn_params_trained_count(const nn_params *p)
{
    return p->trained;
}

int nn_params_trained_at(const nn_params *p, const char *name, size_t *offset, size_t *count, err *e)
{
    weight *w;

    TRY(find_or_say(p, name, &w, e));
    if (w->trained_at == NOT_TRAINED)
        return err_set(e, ERR_INPUT, "%s is not trained", name);
    *offset = (size_t)w->trained_at;
    *count = count_of(w);
    return 0;
}

/* Weights that stood in files come back from there; the others are gone, and the table is made anew. */
void nn_params_reset(nn_params *p)
{
    int kept = 0;

    untrain(p);
    free_states(p);
    nn_names_free(&p->index);
    for (int i = 0; i < p->n; i++) {
        weight w = p->weights[i];
        if (w.set)
            unload(p, &w);
        w.set = false;
        if (!w.file) {
            free(w.name);
            continue;
        }
        nn_names_put(&p->index, w.name, kept);
        p->weights[kept++] = w;
    }
    p->n = kept;
}

/* ---- binding ---- */

static int bind_state(nn_params *p, nn_tensor leaf, void **mem, err *e)
{
    const state *s = find_state(p, leaf->name);
    char a[64], b[64];

    if (!s)
        return err_set(e, ERR_INPUT, "there is no state called %s", leaf->name);
    if (!nn_same_shape(s->shape, leaf->shape))
        return err_set(e, ERR_SHAPE, "state %s is %s, the graph asks for %s", leaf->name, nn_shape_text(s->shape, a),
                       nn_shape_text(leaf->shape, b));
    *mem = s->mem;
    return 0;
}

int nn_params_bind(nn_params *p, nn_tensor leaf, void **mem, bool *frozen, err *e)
{
    weight *w;
    char a[64], b[64];

    *frozen = false;
    if (leaf->op == &nn_op_state)
        return bind_state(p, leaf, mem, e);
    TRY(find_or_say(p, leaf->name, &w, e));
    if (!nn_layout_fits(leaf->shape, w->shape))
        return err_set(e, ERR_SHAPE, "%s is %s in the file, the model asks for %s", leaf->name,
                       nn_shape_text(w->shape, a), nn_shape_text(leaf->shape, b));
    *frozen = w->trained_at == NOT_TRAINED;
    if (*frozen)
        TRY(load(p, w, e));
    *mem = place_of(p, w);
    return 0;
}
