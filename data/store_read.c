/* Reading from a store, by our own reader of HDF5 (h5.h): whatever leaves here has been checked against its sha256. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/store_impl.h"

/* ---- the way to an object ---- */

/* "/a/b" is "/a" and "b"; "/a" is "/" and "a". */
static void split(char parent[FS_PATH], const char **name, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(parent, FS_PATH, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    *name = slash + 1;
}

static const store_group *entered(const store *s, const char *path)
{
    for (size_t i = 0; i < s->n_entered; i++)
        if (strcmp(s->entered[i]->path, path) == 0)
            return s->entered[i];
    return NULL;
}

int store_object(store *s, const char *path, h5_object *out, uint64_t *place, err *e)
{
    char parent[FS_PATH];
    const char *name, *wrong;
    uint64_t address = s->h5.root;
    *out = (h5_object){0};
    if (strcmp(path, "/") != 0) {
        const h5_object *group;
        const h5_link *link;
        split(parent, &name, path);
        TRY(store_enter(s, parent, &group, e));
        link = h5_find_link(group, name);
        if (!link)
            return store_damage(s, path, "is not in the file", e);
        address = link->address;
    }
    if (place)
        *place = address;
    wrong = h5_read_object(out, &s->h5, address);
    return wrong ? store_damage(s, path, wrong, e) : 0;
}

int store_enter(store *s, const char *path, const h5_object **out, err *e)
{
    const store_group *known = entered(s, path);
    store_group *g;
    int rc;
    if (strlen(path) >= FS_PATH)
        return err_set(e, ERR_INPUT, "%s: a path of %zu bytes is too long", s->path, strlen(path));
    if (!known) {
        g = NEW(store_group);
        g->path = mem_text(path);
        rc = store_object(s, path, &g->o, NULL, e);
        if (rc == 0)
            rc = store_check_group(s, &g->o, path, e);
        s->entered = mem_grow(s->entered, s->n_entered + 1, sizeof(store_group *));
        s->entered[s->n_entered++] = g;
        if (rc != 0) { /* not to be found again */
            g->path[0] = '\0';
            return rc;
        }
        known = g;
    }
    if (out)
        *out = &known->o;
    return 0;
}

void store_forget_groups(store *s)
{
    for (size_t i = 0; i < s->n_entered; i++) {
        h5_object_free(&s->entered[i]->o);
        free(s->entered[i]->path);
        free(s->entered[i]);
    }
    free(s->entered);
}

/* ---- datasets ---- */

static int open_dataset(store *s, const char *path, h5_object *o, err *e)
{
    CHECK(!s->writing);
    TRY(store_object(s, path, o, NULL, e));
    if (o->is_dataset)
        return 0;
    h5_object_free(o);
    return store_damage(s, path, "is not a readable dataset", e);
}

static int read_values(const store *s, const char *path, const h5_object *o, void *to, err *e)
{
    char now[HASH_HEX], *then = NULL;
    hash *h = store_digest_of(o->shape, o->text, o->bytes);
    const char *wrong = h5_read_values(to, h, o, &s->h5);
    bool same;
    hash_end(h, now);
    if (wrong)
        return store_damage(s, path, wrong, e);
    TRY(store_attr_of(s, o, path, STORE_DIGEST, &then, e));
    same = store_same_digest(now, then);
    free(then);
    return same ? 0 : store_damage(s, path, "damaged: its values are not those its sha256 was made of", e);
}

static int not_as_wanted(const store *s, const char *path, const h5_object *o, store_shape want, err *e)
{
    char found[100], wanted[100];
    const store_shape *at[2] = {&o->shape, &want};
    char *text[2] = {found, wanted};
    for (int k = 0; k < 2; k++) {
        size_t n = 0;
        text[k][0] = '\0';
        for (int i = 0; i < at[k]->n; i++)
            n += (size_t)snprintf(text[k] + n, 100 - n, i ? ",%lld" : "%lld", (long long)at[k]->d[i]);
    }
    return err_set(e, ERR_SHAPE, "%s: %s: %s [%s] where %s [%s] is wanted (-1: any)", s->path, path,
                   o->text ? "text" : dtype_name(o->shape.type), found, dtype_name(want.type), wanted);
}

static bool is_wanted(const h5_object *o, store_shape want)
{
    if (o->text || o->shape.type != want.type || o->shape.n != want.n)
        return false;
    for (int i = 0; i < want.n; i++)
        if (want.d[i] != -1 && want.d[i] != o->shape.d[i])
            return false;
    return true;
}

int store_get(store *s, const char *path, store_shape want, void *to, err *e)
{
    h5_object o;
    int rc;
    TRY(open_dataset(s, path, &o, e));
    rc = is_wanted(&o, want) ? read_values(s, path, &o, to, e) : not_as_wanted(s, path, &o, want, e);
    h5_object_free(&o);
    return rc;
}

int store_load(store *s, const char *path, store_shape want, void **to, store_shape *shape, err *e)
{
    h5_object o;
    int rc;
    void *at = NULL;
    TRY(open_dataset(s, path, &o, e));
    rc = is_wanted(&o, want) ? mem_big(&at, o.bytes ? o.bytes : 1, path, e) : not_as_wanted(s, path, &o, want, e);
    if (rc == 0)
        mem_whole(at, o.bytes);
    if (rc == 0)
        rc = read_values(s, path, &o, at, e);
    if (rc == 0) {
        *to = at;
        if (shape)
            *shape = o.shape;
    } else {
        free(at);
    }
    h5_object_free(&o);
    return rc;
}

/* All texts of a dataset as one block of n times o->text bytes; the last byte of each is made 0. */
static int load_block(store *s, const char *path, const h5_object *o, char **block, err *e)
{
    void *at = NULL;
    int rc = o->text ? 0 : store_damage(s, path, "is not text", e);
    if (rc == 0)
        rc = mem_big(&at, o->bytes ? o->bytes : 1, path, e);
    if (rc == 0)
        rc = read_values(s, path, o, at, e);
    if (rc != 0) {
        free(at);
        return rc;
    }
    *block = at;
    for (size_t end = o->text; end <= o->bytes; end += o->text)
        (*block)[end - 1] = '\0';
    return 0;
}

int store_load_text(store *s, const char *path, char **text, err *e)
{
    h5_object o;
    int rc;
    TRY(open_dataset(s, path, &o, e));
    rc = o.shape.n == 0 ? load_block(s, path, &o, text, e) : store_damage(s, path, "is not one text", e);
    h5_object_free(&o);
    return rc;
}

int store_load_texts(store *s, const char *path, char ***text, int64_t *n, err *e)
{
    h5_object o;
    char *block = NULL, **list;
    size_t each;
    int rc;
    TRY(open_dataset(s, path, &o, e));
    rc = o.shape.n == 1 ? load_block(s, path, &o, &block, e) : store_damage(s, path, "is not a list of texts", e);
    *n = o.shape.d[0];
    each = o.text;
    h5_object_free(&o);
    TRY(rc);
    list = NEW_N(char *, *n + 1);
    for (int64_t i = 0; i < *n; i++)
        list[i] = mem_text(block + (size_t)i * each);
    free(block);
    *text = list;
    return 0;
}

int store_shape_of(store *s, const char *path, store_shape *out, err *e)
{
    h5_object o;
    TRY(open_dataset(s, path, &o, e));
    *out = o.shape;
    h5_object_free(&o);
    return 0;
}

/* Where a group on the way cannot be read, the answer is yes: whoever asks then reads, and is told. */
bool store_has(store *s, const char *path)
{
    char parent[FS_PATH];
    const char *name;
    const h5_object *group;
    if (strcmp(path, "/") == 0)
        return true;
    if (strlen(path) >= FS_PATH)
        return false;
    split(parent, &name, path);
    if (!store_has(s, parent))
        return false;
    return store_enter(s, parent, &group, NULL) != 0 || h5_find_link(group, name) != NULL;
}

/* ---- attributes ---- */

static int find_attr(const store *s, const h5_object *o, const char *path, const char *name, h5_kind kind,
                     const h5_attr **out, err *e)
{
    static const char *const what[] = {"a text", "a whole number", "a number"};
    *out = h5_find_attr(o, name);
    if (!*out)
        return err_set(e, ERR_INPUT, "%s: %s: has no attribute %s", s->path, path, name);
    if ((*out)->kind != kind)
        return err_set(e, ERR_INPUT, "%s: %s: attribute %s is not %s", s->path, path, name, what[kind]);
    return 0;
}

int store_attr_of(const store *s, const h5_object *o, const char *path, const char *name, char **out, err *e)
{
    const h5_attr *a;
    TRY(find_attr(s, o, path, name, H5_TEXT, &a, e));
    *out = mem_new(a->bytes + 1, 1);
    memcpy(*out, a->value, a->bytes);
    return 0;
}

/* A group's attributes are checked with it, a dataset's with the group it stands in. */
static int object_at(store *s, const char *path, h5_object *o, err *e)
{
    TRY(store_object(s, path, o, NULL, e));
    if (o->is_dataset || store_enter(s, path, NULL, e) == 0)
        return 0;
    h5_object_free(o);
    return e ? (int)e->code : ERR_INPUT;
}

int store_get_text(store *s, const char *path, const char *name, char **text, err *e)
{
    h5_object o;
    int rc;
    TRY(object_at(s, path, &o, e));
    rc = store_attr_of(s, &o, path, name, text, e);
    h5_object_free(&o);
    return rc;
}

static int get_number(store *s, const char *path, const char *name, h5_kind kind, void *value, err *e)
{
    h5_object o;
    const h5_attr *a;
    int rc;
    TRY(object_at(s, path, &o, e));
    rc = find_attr(s, &o, path, name, kind, &a, e);
    if (rc == 0)
        memcpy(value, a->value, 8);
    h5_object_free(&o);
    return rc;
}

int store_get_int(store *s, const char *path, const char *name, int64_t *value, err *e)
{
    return get_number(s, path, name, H5_INT, value, e);
}

int store_get_real(store *s, const char *path, const char *name, double *value, err *e)
{
    return get_number(s, path, name, H5_REAL, value, e);
}

bool store_has_attr(store *s, const char *path, const char *name)
{
    h5_object o;
    bool has;
    if (object_at(s, path, &o, NULL) != 0)
        return false;
    has = h5_find_attr(&o, name) != NULL;
    h5_object_free(&o);
    return has;
}

/* ---- listing ---- */

int store_names(store *s, const char *group, char ***names, size_t *n, err *e)
{
    const h5_object *o;
    *n = 0;
    *names = NEW_N(char *, 1);
    if (!store_has(s, group))
        return 0;
    TRY(store_enter(s, group, &o, e));
    *names = mem_grow(*names, o->n_links + 1, sizeof **names);
    for (; *n < o->n_links; (*n)++)
        (*names)[*n] = mem_text(o->link[*n].name);
    (*names)[*n] = NULL;
    return 0;
}

void store_names_free(char **names)
{
    for (char **at = names; at && *at; at++)
        free(*at);
    free(names);
}

/* ---- everything ---- */

typedef struct {
    bool values;
    uint64_t left; /* objects that may still come: a group may stand within itself, and then there is no end */
} visit;

static int check_tree(store *s, const char *path, int depth, visit *v, err *e);

static int check_values(store *s, const char *path, const h5_object *o, err *e)
{
    void *values = NULL;
    int rc = mem_big(&values, o->bytes ? o->bytes : 1, path, e);
    if (rc == 0)
        rc = read_values(s, path, o, values, e);
    free(values);
    return rc;
}

static int check_child(store *s, const char *group, const char *name, int depth, visit *v, err *e)
{
    char path[FS_PATH];
    h5_object o;
    int rc = 0;
    if (v->left-- == 0)
        return store_damage(s, group, "holds itself", e);
    if (snprintf(path, sizeof path, "%s%s%s", group, strcmp(group, "/") ? "/" : "", name) >= FS_PATH)
        return store_damage(s, group, "a child's name is too long", e);
    TRY(store_object(s, path, &o, NULL, e));
    if (!o.is_dataset)
        rc = check_tree(s, path, depth + 1, v, e);
    else if (v->values)
        rc = check_values(s, path, &o, e);
    h5_object_free(&o);
    return rc;
}

static int check_tree(store *s, const char *path, int depth, visit *v, err *e)
{
    const h5_object *o;
    if (depth > STORE_DEPTH)
        return store_damage(s, path, "groups are nested deeper than this program writes them", e);
    TRY(store_enter(s, path, &o, e));
    for (size_t i = 0; i < o->n_links; i++)
        TRY(check_child(s, path, o->link[i].name, depth, v, e));
    return 0;
}

int store_check_groups(store *s, err *e)
{
    visit v = {.left = s->h5.map.n / 16}; /* no object takes less */
    return check_tree(s, "/", 0, &v, e);
}

int store_check(store *s, err *e)
{
    visit v = {.values = true, .left = s->h5.map.n / 16};
    return check_tree(s, "/", 0, &v, e);
}
