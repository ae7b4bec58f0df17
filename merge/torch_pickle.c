#include "merge/torch_pickle.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

enum { STACK_MOST = 1 << 20, MEMO_MOST = 1 << 20, TEXT_MOST = 4096, VALUES_MOST = 1 << 21 };

struct pickle {
    const unsigned char *at, *end;
    pickle_value **made; /* every value, for freeing */
    size_t n_made;
    pickle_value **stack; /* NULL: a mark */
    size_t depth;
    pickle_value **memo;
    size_t n_memo;
};

static int broken(err *e)
{
    err_set(e, ERR_INPUT, "its pickle is cut short or damaged");
    return ERR_INPUT;
}

/* ---- values ---- */

static pickle_value *make(pickle *p, pickle_kind kind)
{
    pickle_value *v = NEW(pickle_value);
    v->kind = kind;
    p->made = mem_grow(p->made, p->n_made + 1, sizeof *p->made);
    return p->made[p->n_made++] = v;
}

static int push(pickle *p, pickle_value *v, err *e)
{
    if (p->depth >= STACK_MOST)
        return broken(e);
    p->stack = mem_grow(p->stack, p->depth + 1, sizeof *p->stack);
    p->stack[p->depth++] = v;
    return 0;
}

static int pop(pickle *p, pickle_value **v, err *e)
{
    if (p->depth == 0 || !p->stack[p->depth - 1])
        return broken(e);
    *v = p->stack[--p->depth];
    return 0;
}

static int top(const pickle *p, pickle_kind kind, pickle_value **v, err *e)
{
    if (p->depth == 0 || !p->stack[p->depth - 1] || p->stack[p->depth - 1]->kind != kind)
        return broken(e);
    *v = p->stack[p->depth - 1];
    return 0;
}

static int push_number(pickle *p, int64_t number, err *e)
{
    pickle_value *v = make(p, PV_NUMBER);
    v->number = number;
    return push(p, v, e);
}

static void append(pickle_value *to, pickle_value *item)
{
    to->item = mem_grow(to->item, to->n + 1, sizeof *to->item);
    to->item[to->n++] = item;
}

/* The top `n` values as one tuple in their place. */
static int tuple_of(pickle *p, size_t n, err *e)
{
    pickle_value *t = make(p, PV_TUPLE);
    if (p->depth < n)
        return broken(e);
    for (size_t i = p->depth - n; i < p->depth; i++) {
        if (!p->stack[i])
            return broken(e);
        append(t, p->stack[i]);
    }
    p->depth -= n;
    return push(p, t, e);
}

static int above_mark(const pickle *p, size_t *n, err *e)
{
    for (*n = 0; *n < p->depth; (*n)++)
        if (!p->stack[p->depth - 1 - *n])
            return 0;
    return broken(e);
}

static int tuple_of_marked(pickle *p, err *e)
{
    size_t n;
    pickle_value *t;
    TRY(above_mark(p, &n, e));
    TRY(tuple_of(p, n, e));
    TRY(pop(p, &t, e));
    p->depth--; /* the mark */
    return push(p, t, e);
}

/* What lies above the mark goes into the list or dictionary below it. */
static int items_of_marked(pickle *p, pickle_kind kind, err *e)
{
    size_t n, from;
    pickle_value *to;
    TRY(above_mark(p, &n, e));
    from = p->depth - n;
    p->depth = from - 1;
    TRY(top(p, kind, &to, e));
    if (kind == PV_DICT && n % 2)
        return broken(e);
    for (size_t i = 0; i < n; i++)
        append(to, p->stack[from + i]);
    return 0;
}

static int items(pickle *p, pickle_kind kind, size_t n, err *e)
{
    pickle_value *to, *item[2] = {NULL, NULL};
    for (size_t i = n; i-- > 0;)
        TRY(pop(p, &item[i], e));
    TRY(top(p, kind, &to, e));
    for (size_t i = 0; i < n; i++)
        append(to, item[i]);
    return 0;
}

/* ---- what the few known globals make of their arguments ---- */

static int storage_of(pickle *p, err *e)
{
    static const struct {
        const char *name;
        dtype type;
    } types[] = {
        {"torch FloatStorage", F32},  {"torch HalfStorage", F16},   {"torch BFloat16Storage", BF16},
        {"torch DoubleStorage", F64}, {"torch LongStorage", I64},   {"torch IntStorage", I32},
        {"torch ByteStorage", U8},    {"torch BoolStorage", BOOL8},
    };
    pickle_value *id, *v;
    TRY(pop(p, &id, e));
    if (id->kind != PV_TUPLE || id->n < 5 || id->item[0]->kind != PV_TEXT ||
        strcmp(id->item[0]->text, "storage") != 0 || id->item[1]->kind != PV_GLOBAL || id->item[2]->kind != PV_TEXT ||
        id->item[4]->kind != PV_NUMBER)
        return err_set(e, ERR_INPUT, "its pickle refers to something that is no storage");
    v = make(p, PV_STORAGE);
    v->text = mem_text(id->item[2]->text);
    v->number = id->item[4]->number;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, id->item[1]->text) == 0) {
            v->type = types[i].type;
            return push(p, v, e);
        }
    return err_set(e, ERR_INPUT, "its pickle has a storage of kind %.60s, which is not read", id->item[1]->text);
}

/* _rebuild_tensor_v2(storage, first, shape, strides, ...) */
static int tensor_of(pickle *p, const pickle_value *args, err *e)
{
    pickle_value *v;
    if (args->n < 4 || args->item[0]->kind != PV_STORAGE || args->item[1]->kind != PV_NUMBER ||
        args->item[2]->kind != PV_TUPLE || args->item[3]->kind != PV_TUPLE || args->item[2]->n != args->item[3]->n)
        return broken(e);
    v = make(p, PV_TENSOR);
    v->number = args->item[1]->number;
    append(v, args->item[0]);
    append(v, args->item[2]);
    append(v, args->item[3]);
    return push(p, v, e);
}

static int reduce(pickle *p, err *e)
{
    pickle_value *args, *what;
    TRY(pop(p, &args, e));
    TRY(pop(p, &what, e));
    if (what->kind != PV_GLOBAL || args->kind != PV_TUPLE)
        return broken(e);
    if (strcmp(what->text, "collections OrderedDict") == 0 && args->n == 0)
        return push(p, make(p, PV_DICT), e);
    if (strcmp(what->text, "torch._utils _rebuild_tensor_v2") == 0)
        return tensor_of(p, args, e);
    if (strcmp(what->text, "torch._utils _rebuild_parameter") == 0 && args->n >= 1)
        return push(p, args->item[0], e);
    return err_set(e, ERR_INPUT, "its pickle wants to call %.80s; only tensors and dictionaries are read", what->text);
}

/* ---- reading bytes ---- */

static int take(pickle *p, size_t n, const unsigned char **at, err *e)
{
    if ((size_t)(p->end - p->at) < n)
        return broken(e);
    *at = p->at;
    p->at += n;
    return 0;
}

static int take_number(pickle *p, size_t bytes, uint64_t *v, err *e)
{
    const unsigned char *at;
    TRY(take(p, bytes, &at, e));
    *v = 0;
    for (size_t i = 0; i < bytes; i++)
        *v |= (uint64_t)at[i] << (8 * i);
    return 0;
}

static int push_text(pickle *p, size_t length_bytes, err *e)
{
    uint64_t n;
    const unsigned char *at;
    pickle_value *v;
    TRY(take_number(p, length_bytes, &n, e));
    if (n > TEXT_MOST)
        return err_set(e, ERR_INPUT, "its pickle holds a text of %llu bytes", (unsigned long long)n);
    TRY(take(p, n, &at, e));
    v = make(p, PV_TEXT);
    v->text = mem_new(n + 1, 1);
    memcpy(v->text, at, n);
    return push(p, v, e);
}

static int take_line(pickle *p, const unsigned char **at, size_t *n, err *e)
{
    const unsigned char *end = memchr(p->at, '\n', (size_t)(p->end - p->at));
    if (!end || end - p->at > TEXT_MOST)
        return broken(e);
    *at = p->at;
    *n = (size_t)(end - p->at);
    p->at = end + 1;
    return 0;
}

static int push_global(pickle *p, const void *module, size_t m, const void *name, size_t n, err *e)
{
    pickle_value *v = make(p, PV_GLOBAL);
    v->text = mem_new(m + n + 2, 1);
    memcpy(v->text, module, m);
    v->text[m] = ' ';
    memcpy(v->text + m + 1, name, n);
    return push(p, v, e);
}

static int read_global(pickle *p, err *e)
{
    const unsigned char *module, *name;
    size_t m, n;
    TRY(take_line(p, &module, &m, e));
    TRY(take_line(p, &name, &n, e));
    return push_global(p, module, m, name, n, e);
}

static int stack_global(pickle *p, err *e)
{
    pickle_value *module, *name;
    TRY(pop(p, &name, e));
    TRY(pop(p, &module, e));
    if (name->kind != PV_TEXT || module->kind != PV_TEXT)
        return broken(e);
    return push_global(p, module->text, strlen(module->text), name->text, strlen(name->text), e);
}

static int memo_put(pickle *p, uint64_t i, err *e)
{
    if (p->depth == 0 || i >= MEMO_MOST)
        return broken(e);
    if (i >= p->n_memo) {
        p->memo = mem_grow(p->memo, i + 1, sizeof *p->memo);
        memset(p->memo + p->n_memo, 0, (i + 1 - p->n_memo) * sizeof *p->memo);
        p->n_memo = i + 1;
    }
    p->memo[i] = p->stack[p->depth - 1];
    return 0;
}

static int memo_get(pickle *p, uint64_t i, err *e)
{
    if (i >= p->n_memo || !p->memo[i])
        return broken(e);
    return push(p, p->memo[i], e);
}

static int read_long(pickle *p, err *e)
{
    uint64_t bytes, v = 0;
    TRY(take_number(p, 1, &bytes, e));
    if (bytes > 8)
        return broken(e);
    TRY(take_number(p, bytes, &v, e));
    if (bytes > 0 && bytes < 8 && v >> (8 * bytes - 1))
        v |= UINT64_MAX << (8 * bytes);
    return push_number(p, (int64_t)v, e);
}

/* BUILD sets an object's attributes: of an OrderedDict torch keeps its _metadata there, which nobody needs. */
static int build(pickle *p, err *e)
{
    pickle_value *state, *object;
    TRY(pop(p, &state, e));
    return top(p, PV_DICT, &object, e);
}

static int with_number(pickle *p, size_t bytes, int (*then)(pickle *, uint64_t, err *), err *e)
{
    uint64_t v;
    TRY(take_number(p, bytes, &v, e));
    return then(p, v, e);
}

static int push_unsigned(pickle *p, uint64_t v, err *e)
{
    return push_number(p, (int64_t)v, e);
}
static int push_signed32(pickle *p, uint64_t v, err *e)
{
    return push_number(p, (int32_t)(uint32_t)v, e);
}
static int pass_over(pickle *p, uint64_t v, err *e)
{
    (void)p;
    (void)v;
    (void)e;
    return 0;
}
static int push_fraction(pickle *p, uint64_t v, err *e)
{
    (void)v;
    return push_number(p, 0, e);
}

static int step(pickle *p, unsigned char op, err *e)
{
    switch (op) {
    case 0x80: return with_number(p, 1, pass_over, e); /* PROTO */
    case 0x95: return with_number(p, 8, pass_over, e); /* FRAME */
    case '(': return push(p, NULL, e);
    case '}': return push(p, make(p, PV_DICT), e);
    case ']': return push(p, make(p, PV_LIST), e);
    case ')': return push(p, make(p, PV_TUPLE), e);
    case 'N': return push(p, make(p, PV_NONE), e);
    case 0x88: return push_number(p, 1, e);
    case 0x89: return push_number(p, 0, e);
    case 'K': return with_number(p, 1, push_unsigned, e);
    case 'M': return with_number(p, 2, push_unsigned, e);
    case 'J': return with_number(p, 4, push_signed32, e);
    case 'G': return with_number(p, 8, push_fraction, e);
    case 0x8a: return read_long(p, e);
    case 'X': return push_text(p, 4, e);
    case 0x8c: return push_text(p, 1, e);
    case 'U': return push_text(p, 1, e); /* a byte string of Python 2 */
    case 't': return tuple_of_marked(p, e);
    case 0x85: return tuple_of(p, 1, e);
    case 0x86: return tuple_of(p, 2, e);
    case 0x87: return tuple_of(p, 3, e);
    case 's': return items(p, PV_DICT, 2, e);
    case 'a': return items(p, PV_LIST, 1, e);
    case 'u': return items_of_marked(p, PV_DICT, e);
    case 'e': return items_of_marked(p, PV_LIST, e);
    case 'q': return with_number(p, 1, memo_put, e);
    case 'r': return with_number(p, 4, memo_put, e);
    case 0x94: return memo_put(p, p->n_memo, e);
    case 'h': return with_number(p, 1, memo_get, e);
    case 'j': return with_number(p, 4, memo_get, e);
    case 'c': return read_global(p, e);
    case 0x93: return stack_global(p, e);
    case 'R': return reduce(p, e);
    case 'Q': return storage_of(p, e);
    case 'b': return build(p, e);
    default:
        return err_set(e, ERR_INPUT, "its pickle uses opcode 0x%02x, which dictionaries of tensors do not need", op);
    }
}

int pickle_read(pickle **out, const pickle_value **root, const unsigned char *at, size_t n, err *e)
{
    pickle *p = NEW(pickle);
    pickle_value *v = NULL;
    int rc = 0;
    p->at = at;
    p->end = at + n;
    while (rc == 0 && p->at < p->end && *p->at != '.') {
        unsigned char op = *p->at++;
        rc = p->n_made < VALUES_MOST ? step(p, op, e) : err_set(e, ERR_INPUT, "its pickle holds too many values");
    }
    if (rc == 0)
        rc = p->at < p->end ? pop(p, &v, e) : broken(e);
    if (rc != 0) {
        pickle_free(p);
        return rc;
    }
    *out = p;
    *root = v;
    return 0;
}

void pickle_free(pickle *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_made; i++) {
        free(p->made[i]->text);
        free(p->made[i]->item);
        free(p->made[i]);
    }
    free(p->made);
    free(p->stack);
    free(p->memo);
    free(p);
}
