/* Weights: names, files and values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/nn/params_inside.h"
#include "trainer/nn/params_layout.h"

nn_params *nn_params_new(nn_backend *b)
{
    nn_params *p = NEW(nn_params);

    p->on = b;
    CHECK(pthread_mutex_init(&p->making, NULL) == 0);
    return p;
}

void nn_params_lock(nn_params *p) { pthread_mutex_lock(&p->making); }

static void free_wide(nn_params *p)
{
    free(p->wide);
    p->wide = NULL;
    p->wide_n = 0;
}

void nn_params_unlock(nn_params *p)
{
    free_wide(p);
    pthread_mutex_unlock(&p->making);
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

void params_drop_forms(nn_params *p, weight *w)
{
    for (int i = 0; i < w->form_n; i++) {
        p->on->release(p->on, w->forms[i].mem);
        free(w->forms[i].key);
    }
    free(w->forms);
    w->forms = NULL;
    w->form_n = 0;
}

void nn_params_free(nn_params *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n; i++) {
        params_unload(p, &p->weights[i]);
        params_drop_forms(p, &p->weights[i]);
        free(p->weights[i].name);
    }
    params_free_states(p);
    free_wide(p);
    free(p->weights);
    nn_names_free(&p->index);
    pthread_mutex_destroy(&p->making);
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

/* [o,h,w,i] of a graph is [o,i,h,w] in a file. */
static nn_shape as_in_file(nn_shape s)
{
    return s.n == 4 ? NN_SHAPE(s.d[0], s.d[3], s.d[1], s.d[2]) : s;
}

int nn_params_add_drawn(nn_params *p, const char *name, nn_shape graph_shape, err *e)
{
    if (params_find(p, name))
        return 0; /* asked for by two graphs */
    (void)e;
    add(p, mem_text(name), as_in_file(graph_shape))->drawn = true;
    return 0;
}

/* ---- moving values between host (file layout) and backend (graph layout) ---- */

size_t params_count_of(const weight *w)
{
    return (size_t)nn_count(w->shape);
}

bool params_is_narrow(const nn_params *p, const weight *w)
{
    return p->narrow && w->trained_at != NOT_TRAINED;
}

int params_write(nn_params *p, void *mem, bool narrow, const float *from, size_t count, err *e)
{
    uint16_t half[NARROW_PART];

    if (!narrow)
        return p->on->write(p->on, mem, from, count * sizeof *from, e);
    for (size_t at = 0; at < count; at += NARROW_PART) {
        size_t n = count - at < NARROW_PART ? count - at : NARROW_PART;
        f32_into(half, BF16, from + at, n);
        TRY(p->on->write(p->on, (uint16_t *)mem + at, half, n * sizeof *half, e));
    }
    return 0;
}

int params_read_back(nn_params *p, float *to, const void *mem, bool narrow, size_t count, err *e)
{
    uint16_t half[NARROW_PART];

    if (!narrow)
        return p->on->read(p->on, to, mem, count * sizeof *to, e);
    for (size_t at = 0; at < count; at += NARROW_PART) {
        size_t n = count - at < NARROW_PART ? count - at : NARROW_PART;
        TRY(p->on->read(p->on, half, (const uint16_t *)mem + at, n * sizeof *half, e));
        f32_from(to + at, half, BF16, n);
    }
    return 0;
}

static int write_turned(nn_params *p, void *mem, const weight *w, const float *from, err *e)
{
    size_t count = params_count_of(w);
    float *turned = NULL;

    if (!nn_layout_turns(w->shape))
        return params_write(p, mem, params_is_narrow(p, w), from, count, e);
    TRY(mem_big((void **)&turned, count * sizeof *turned, "a weight", e));
    nn_layout_to_graph(turned, from, w->shape);
    int rc = params_write(p, mem, params_is_narrow(p, w), turned, count, e);
    free(turned);
    return rc;
}

static int read_turned(nn_params *p, float *to, const void *mem, const weight *w, err *e)
{
    size_t count = params_count_of(w);
    float *turned = NULL;

    if (!nn_layout_turns(w->shape))
        return params_read_back(p, to, mem, params_is_narrow(p, w), count, e);
    TRY(mem_big((void **)&turned, count * sizeof *turned, "a weight", e));
    int rc = params_read_back(p, turned, mem, params_is_narrow(p, w), count, e);
    if (rc == 0)
        nn_layout_to_file(to, turned, w->shape);
    free(turned);
    return rc;
}

bool params_comes_back(const weight *w)
{
    return !w->set && (w->file || w->drawn);
}

/* Element i of a stream that a name begins: Steele, Lea and Flood's SplitMix (2014), two numbers from each word. */
static float drawn_number(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i / 2 + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (float)((int32_t)(i % 2 ? z >> 32 : z & 0xffffffffu)) * 0x1p-31F; /* -1..1 */
}

/* Norms' gains are about 1, biases small, and a row of a matrix has length 1. */
static void draw(const weight *w, float *host)
{
    size_t n = params_count_of(w);
    bool gain = strstr(w->name, "norm") && w->shape.n == 1 && str_ends(w->name, ".weight");
    float by = w->shape.n == 1 ? 0.1F : sqrtf(3.0F * (float)w->shape.d[0] / (float)n);
    uint64_t key = 0;

    for (const char *c = w->name; *c; c++)
        key = key * 31 + (unsigned char)*c;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        host[i] = drawn_number(key, i) * by + (float)gain;
}

/* A part of a mebibyte's numbers a thread. */
static void convert(float *to, const st_tensor *t)
{
    const size_t part = 1 << 18, each = dtype_bytes(t->type), n = (size_t)t->count;

#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += part)
        f32_from(to + i, (const char *)t->data + i * each, t->type, n - i < part ? n - i : part);
}

int params_read(const weight *w, float *host, err *e)
{
    const st_tensor *t = w->file ? st_find(w->file, w->file_name) : NULL;

    if (t && (t->type == F16 || t->type == BF16) && t->count == params_count_of(w))
        convert(host, t);
    else if (w->file)
        return st_read_f32(w->file, w->file_name, host, params_count_of(w), e);
    else
        draw(w, host);
    return 0;
}

/* The file's value into mem. */
int params_load_into(nn_params *p, const weight *w, void *mem, err *e)
{
    float *host = NULL;

    TRY(mem_big((void **)&host, params_count_of(w) * sizeof(float), w->name, e));
    int rc = params_read(w, host, e);
    if (rc == 0)
        rc = write_turned(p, mem, w, host, e);
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
    return (char *)params_find_state(p, "train.w")->mem +
           ((size_t)slot * p->trained + (size_t)w->trained_at) * (p->narrow ? sizeof(uint16_t) : sizeof(float));
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
    params_drop_forms(p, w);
    return write_turned(p, params_place_of(p, w), w, data, e);
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
        return params_read(w, out, e);
    return read_turned(p, out, params_place_of(p, w), w, e);
}

/* ---- binding ---- */

int nn_params_look(nn_params *p, nn_tensor leaf, bool *frozen, err *e)
{
    weight *w;
    char a[64], b[64];

    TRY(params_find_or_say(p, leaf->name, &w, e));
    if (!nn_layout_fits(leaf->shape, w->shape))
        return err_set(e, ERR_SHAPE, "%s is %s in the file, the model asks for %s", leaf->name,
                       nn_shape_text(w->shape, a), nn_shape_text(leaf->shape, b));
    if (leaf->type != (params_is_narrow(p, w) ? BF16 : F32))
        return err_set(e, ERR_INPUT, "%s is asked for as %s and is not kept so", leaf->name, dtype_name(leaf->type));
    *frozen = w->trained_at == NOT_TRAINED;
    return 0;
}

int nn_params_bind(nn_params *p, nn_tensor leaf, void **mem, bool *frozen, err *e)
{
    *frozen = false;
    if (leaf->op == &nn_op_state)
        return params_bind_state(p, leaf, mem, e);
    TRY(nn_params_look(p, leaf, frozen, e));
    weight *w = params_find(p, leaf->name);
    if (*frozen)
        TRY(load(p, w, e));
    *mem = place_in(p, w, leaf->at.slot > 0 ? leaf->at.slot - 1 : p->slot);
    return 0;
}

int nn_params_hold(nn_params *p, nn_tensor leaf, void **mem, err *e)
{
    bool frozen;

    TRY(nn_params_bind(p, leaf, mem, &frozen, e));
    params_find(p, leaf->name)->users++;
    return 0;
}

void nn_params_let_go(nn_params *p, nn_tensor leaf)
{
    weight *w = params_find(p, leaf->name);

    if (w)
        w->users--;
}

/* ---- layouts of kernels' own ---- */

/* One piece of memory for all weights of a plan: a fresh one for each would be gigabytes of pages to be cleared. */
static int make_wide(nn_params *p, const weight *w, err *e)
{
    size_t n = params_count_of(w);

    if (n <= p->wide_n)
        return 0;
    free_wide(p);
    TRY(mem_big((void **)&p->wide, n * sizeof(float), w->name, e));
    p->wide_n = n;
    return 0;
}

/* The value in the file's layout: where it lies, or in memory that the next one takes. */
static int file_values(nn_params *p, const weight *w, const float **values, err *e)
{
    const st_tensor *t = w->file && !w->set ? st_find(w->file, w->file_name) : NULL;

    *values = t && t->type == F32 && (uintptr_t)t->data % sizeof(float) == 0 ? t->data : NULL;
    if (*values)
        return 0;
    TRY(make_wide(p, w, e));
    *values = p->wide;
    return w->mem ? read_turned(p, p->wide, w->mem, w, e) : params_read(w, p->wide, e);
}

/* Where the backend's memory is not the machine's, made beside it and copied. */
static int make_form(nn_params *p, void *mem, const nn_form *form, const float *values, err *e)
{
    void *host = NULL;

    if (!p->on->left)
        return form->make(mem, values, form->arg, e);
    TRY(mem_big(&host, form->bytes, "a weight in another layout", e));
    int rc = form->make(host, values, form->arg, e);
    if (rc == 0)
        rc = p->on->write(p->on, mem, host, form->bytes, e);
    free(host);
    return rc;
}

static int add_form(nn_params *p, weight *w, const nn_form *form, const float *values, err *e)
{
    weight_form f = {.key_bytes = form->key_bytes, .bytes = form->bytes};

    TRY(p->on->alloc(p->on, &f.mem, form->bytes, e));
    int rc = make_form(p, f.mem, form, values, e);
    if (rc != 0) {
        p->on->release(p->on, f.mem);
        return rc;
    }
    f.key = memcpy(mem_new(form->key_bytes, 1), form->key, form->key_bytes);
    w->forms = mem_grow(w->forms, (size_t)w->form_n + 1, sizeof *w->forms);
    w->forms[w->form_n++] = f;
    return 0;
}

static const weight_form *find_form(const weight *w, const void *key, size_t key_bytes)
{
    for (int i = 0; i < w->form_n; i++)
        if (w->forms[i].key_bytes == key_bytes && memcmp(w->forms[i].key, key, key_bytes) == 0)
            return &w->forms[i];
    return NULL;
}

bool nn_params_has_form(const nn_params *p, nn_tensor leaf, const void *key, size_t key_bytes)
{
    const weight *w = params_find(p, leaf->name);

    return w && find_form(w, key, key_bytes);
}

size_t nn_params_plain_bytes(const nn_params *p, nn_tensor leaf)
{
    const weight *w = params_find(p, leaf->name);

    return w && !w->mem ? params_count_of(w) * sizeof(float) : 0;
}

int nn_params_form(nn_params *p, nn_tensor leaf, const nn_form *form, void **mem, err *e)
{
    weight *w;
    const float *values;

    TRY(params_find_or_say(p, leaf->name, &w, e));
    const weight_form *made = find_form(w, form->key, form->key_bytes);
    if (made) {
        *mem = made->mem;
        return 0;
    }
    TRY(file_values(p, w, &values, e));
    TRY(add_form(p, w, form, values, e));
    *mem = w->forms[w->form_n - 1].mem;
    if (w->users == 0 && params_comes_back(w))
        params_unload(p, w);
    return 0;
}

size_t nn_params_bytes(const nn_params *p)
{
    size_t bytes = 0;

    for (int i = 0; i < p->n; i++) {
        bytes += p->weights[i].mem ? params_count_of(&p->weights[i]) * sizeof(float) : 0;
        for (int k = 0; k < p->weights[i].form_n; k++)
            bytes += p->weights[i].forms[k].bytes;
    }
    for (int i = 0; i < p->state_n; i++)
        bytes += (size_t)nn_count(p->states[i].shape) * sizeof(float);
    return bytes;
}
