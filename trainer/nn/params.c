/* Weights: names, files and values. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/nn/params_inside.h"
#include "trainer/nn/params_layout.h"

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

void params_unload(nn_params *p, weight *w)
{
    if (w->mem)
        p->on->release(p->on, w->mem);
    w->mem = NULL;
}

void nn_params_free(nn_params *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n; i++) {
        params_unload(p, &p->weights[i]);
        free(p->weights[i].name);
    }
    params_free_states(p);
    free(p->weights);
    nn_names_free(&p->index);
    free(p);
}

/* ---- finding ---- */

weight *params_find(const nn_params *p, const char *name)
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

int params_find_or_say(const nn_params *p, const char *name, weight **out, err *e)
{
    *out = params_find(p, name);
    return *out ? 0 : unknown(p, name, e);
}

bool nn_params_has(const nn_params *p, const char *name)
{
    return params_find(p, name) != NULL;
}

const char *nn_params_name(const nn_params *p, size_t i)
{
    return i < (size_t)p->n ? p->weights[i].name : NULL;
}

int nn_params_shape(const nn_params *p, const char *name, nn_shape *file_shape, err *e)
{
    weight *w;

    TRY(params_find_or_say(p, name, &w, e));
    *file_shape = w->shape;
    return 0;
}

bool nn_params_is_trained(const nn_params *p, const char *name)
{
    const weight *w = params_find(p, name);

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
    if (params_find(p, name.at)) {
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

size_t params_count_of(const weight *w)
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
int params_load_into(nn_params *p, const weight *w, void *mem, err *e)
{
    float *host = NULL;

    TRY(mem_big((void **)&host, params_count_of(w) * sizeof(float), w->name, e));
    int rc = st_read_f32(w->file, w->file_name, host, params_count_of(w), e);
    if (rc == 0)
        rc = write_turned(p, mem, w->shape, host, e);
    free(host);
    return rc;
}

static int load(nn_params *p, weight *w, err *e)
{
    if (w->mem)
        return 0;
    TRY(p->on->alloc(p->on, &w->mem, params_count_of(w) * sizeof(float), e));
    int rc = params_load_into(p, w, w->mem, e);
    if (rc != 0)
        params_unload(p, w);
    return rc;
}

static void *place_in(const nn_params *p, const weight *w, int slot)
{
    if (w->trained_at == NOT_TRAINED)
        return w->mem;
    return (float *)params_find_state(p, "train.w")->mem + (size_t)slot * p->trained + w->trained_at;
}

void *params_place_of(const nn_params *p, const weight *w)
{
    return place_in(p, w, p->slot);
}

int nn_params_set(nn_params *p, const char *name, nn_shape file_shape, const float *data, err *e)
{
    weight *w = params_find(p, name);
    char a[64], b[64];

    if (w && !nn_same_shape(w->shape, file_shape))
        return err_set(e, ERR_SHAPE, "%s is %s and cannot be set to %s", name, nn_shape_text(w->shape, a),
                       nn_shape_text(file_shape, b));
    if (!w)
        w = add(p, mem_text(name), file_shape);
    if (!params_place_of(p, w))
        TRY(p->on->alloc(p->on, &w->mem, params_count_of(w) * sizeof(float), e));
    w->set = true;
    return write_turned(p, params_place_of(p, w), w->shape, data, e);
}

int nn_params_get(nn_params *p, const char *name, float *out, size_t count, err *e)
{
    weight *w;
    char text[64];

    TRY(params_find_or_say(p, name, &w, e));
    if (count != params_count_of(w))
        return err_set(e, ERR_SHAPE, "%s is %s and does not fit %zu elements", name, nn_shape_text(w->shape, text),
                       count);
    if (!params_place_of(p, w))
        return st_read_f32(w->file, w->file_name, out, count, e);
    return read_turned(p, out, params_place_of(p, w), w->shape, e);
}

/* ---- binding ---- */

int nn_params_bind(nn_params *p, nn_tensor leaf, void **mem, bool *frozen, err *e)
{
    weight *w;
    char a[64], b[64];

    *frozen = false;
    if (leaf->op == &nn_op_state)
        return params_bind_state(p, leaf, mem, e);
    TRY(params_find_or_say(p, leaf->name, &w, e));
    if (!nn_layout_fits(leaf->shape, w->shape))
        return err_set(e, ERR_SHAPE, "%s is %s in the file, the model asks for %s", leaf->name,
                       nn_shape_text(w->shape, a), nn_shape_text(leaf->shape, b));
    *frozen = w->trained_at == NOT_TRAINED;
    if (*frozen)
        TRY(load(p, w, e));
    *mem = place_in(p, w, leaf->at.slot > 0 ? leaf->at.slot - 1 : p->slot);
    return 0;
}
