/* The tree of sha256 over a store: written leaves first at commit, checked from the root down as far as one reads. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/store_impl.h"

enum { ATTR_MOST = 64 << 20 }; /* bytes of one attribute: a farm's settings may be long, but not this long */

/* Length first, so that no two sequences of fields run into the same bytes. */
static void add_field(hash *h, const void *bytes, size_t n)
{
    uint64_t length = n;
    hash_add(h, &length, sizeof length);
    hash_add(h, bytes, n);
}

hash *store_digest_of(store_shape shape, size_t text_bytes, size_t bytes)
{
    hash *h = hash_new();
    const char *type = text_bytes ? "text" : dtype_name(shape.type);
    uint64_t length = bytes;
    add_field(h, type, strlen(type));
    add_field(h, &text_bytes, sizeof text_bytes);
    add_field(h, shape.d, (size_t)shape.n * sizeof shape.d[0]);
    hash_add(h, &length, sizeof length);
    return h;
}

void store_values_digest(char hex[HASH_HEX], store_shape shape, size_t text_bytes, const void *data, size_t bytes)
{
    hash *h = store_digest_of(shape, text_bytes, bytes);
    hash_add(h, data, bytes);
    hash_end(h, hex);
}

/* Only what this program writes: fixed-length text, i64, f64. A variable-length type would send HDF5 into its heap. */
static const char *attr_kind(hid_t type)
{
    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0)
        return "text";
    if (H5Tequal(type, H5T_STD_I64LE) > 0)
        return "I64";
    return H5Tequal(type, H5T_IEEE_F64LE) > 0 ? "F64" : NULL;
}

static int hash_attr(const store *s, hash *h, hid_t attr, const char *path, const char *name, err *e)
{
    hid_t type = H5Aget_type(attr);
    const char *kind = type >= 0 ? attr_kind(type) : NULL;
    hsize_t bytes = H5Aget_storage_size(attr);
    int rc = 0;
    char *value;
    if (!kind || bytes == 0 || bytes > ATTR_MOST || (type >= 0 && bytes != H5Tget_size(type)))
        rc = err_set(e, ERR_INPUT, "%s: %s: attribute %s is of a kind this program never writes", s->path, path, name);
    if (rc == 0) {
        value = mem_new(bytes + 1, 1);
        if (H5Aread(attr, type, value) < 0)
            rc = store_fail(s, path, "an attribute cannot be read", e);
        add_field(h, name, strlen(name));
        add_field(h, kind, strlen(kind));
        add_field(h, value, strcmp(kind, "text") == 0 ? strlen(value) : bytes);
        free(value);
    }
    if (type >= 0)
        H5Tclose(type);
    return rc;
}

static int hash_attr_at(const store *s, hash *h, hid_t object, const char *path, hsize_t i, bool own_digest, err *e)
{
    char name[256] = "";
    hid_t attr = H5Aopen_by_idx(object, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT);
    int rc = 0;
    if (attr < 0 || H5Aget_name(attr, sizeof name, name) < 0)
        rc = store_fail(s, path, "an attribute cannot be opened", e);
    else if (own_digest || strcmp(name, STORE_DIGEST) != 0)
        rc = hash_attr(s, h, attr, path, name, e);
    if (attr >= 0)
        H5Aclose(attr);
    return rc;
}

/* own_digest: whether the object's sha256 attribute counts as well. */
static int hash_attrs(const store *s, hash *h, hid_t object, const char *path, bool own_digest, err *e)
{
    H5O_info_t info;
    if (H5Oget_info2(object, &info, H5O_INFO_NUM_ATTRS) < 0)
        return store_fail(s, path, "cannot be looked at", e);
    for (hsize_t i = 0; i < info.num_attrs; i++)
        TRY(hash_attr_at(s, h, object, path, i, own_digest, e));
    return 0;
}

static int hash_digest_attr(const store *s, hash *h, hid_t object, const char *path, err *e)
{
    char *hex = NULL;
    TRY(store_read_attr_text(s, object, path, STORE_DIGEST, &hex, e));
    add_field(h, hex, strlen(hex));
    free(hex);
    return 0;
}

/* Links that lead elsewhere (soft, or into another file) are refused before anything behind them is opened. */
static int child_name(const store *s, hid_t group, const char *path, hsize_t i, char *name, size_t room, err *e)
{
    H5L_info_t link;
    ssize_t n = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, room, H5P_DEFAULT);
    if (n < 0)
        return store_fail(s, path, "its list of children cannot be read", e);
    if ((size_t)n >= room)
        return store_damage(s, path, "a child's name is too long", e);
    if (H5Lget_info(group, name, &link, H5P_DEFAULT) < 0)
        return store_fail(s, path, "a child cannot be looked at", e);
    if (link.type != H5L_TYPE_HARD)
        return store_damage(s, path, "holds a link to elsewhere; this program writes none", e);
    return 0;
}

static int hash_child(const store *s, hash *h, hid_t group, const char *path, hsize_t i, err *e)
{
    char name[512], where[FS_PATH];
    hid_t child;
    int rc;
    TRY(child_name(s, group, path, i, name, sizeof name, e));
    snprintf(where, sizeof where, "%s%s%s", path, strcmp(path, "/") ? "/" : "", name);
    child = H5Oopen(group, name, H5P_DEFAULT);
    if (child < 0)
        return store_fail(s, where, "cannot be opened", e);
    add_field(h, name, strlen(name));
    switch (H5Iget_type(child)) {
    case H5I_GROUP: rc = hash_digest_attr(s, h, child, where, e); break;
    case H5I_DATASET: rc = hash_attrs(s, h, child, where, true, e); break;
    default: rc = store_damage(s, where, "is neither a group nor a dataset", e);
    }
    H5Oclose(child);
    return rc;
}

int store_group_digest(const store *s, hid_t group, const char *path, char hex[HASH_HEX], err *e)
{
    H5G_info_t info;
    hash *h;
    int rc;
    if (H5Gget_info(group, &info) < 0)
        return store_fail(s, path, "is not a readable group", e);
    h = hash_new();
    rc = hash_attrs(s, h, group, path, false, e);
    for (hsize_t i = 0; rc == 0 && i < info.nlinks; i++)
        rc = hash_child(s, h, group, path, i, e);
    hash_end(h, hex);
    return rc;
}

/* Calls visit for every group below and including path, children before parents. */
typedef int visit_fn(store *s, hid_t group, const char *path, err *e);
static int each_group(store *s, hid_t group, const char *path, int depth, visit_fn *visit, err *e);

static int each_child_group(store *s, hid_t group, const char *path, hsize_t i, int depth, visit_fn *visit, err *e)
{
    char name[512], where[FS_PATH];
    hid_t child;
    int rc = 0;
    TRY(child_name(s, group, path, i, name, sizeof name, e));
    snprintf(where, sizeof where, "%s%s%s", path, strcmp(path, "/") ? "/" : "", name);
    child = H5Oopen(group, name, H5P_DEFAULT);
    if (child < 0)
        return store_fail(s, where, "cannot be opened", e);
    if (H5Iget_type(child) == H5I_GROUP)
        rc = each_group(s, child, where, depth + 1, visit, e);
    H5Oclose(child);
    return rc;
}

static int each_group(store *s, hid_t group, const char *path, int depth, visit_fn *visit, err *e)
{
    H5G_info_t info;
    if (depth > STORE_DEPTH)
        return store_damage(s, path, "groups are nested deeper than this program writes them", e);
    if (H5Gget_info(group, &info) < 0)
        return store_fail(s, path, "is not a readable group", e);
    for (hsize_t i = 0; i < info.nlinks; i++)
        TRY(each_child_group(s, group, path, i, depth, visit, e));
    return visit(s, group, path, e);
}

static int from_root(store *s, visit_fn *visit, err *e)
{
    hid_t root = H5Gopen2(s->file, "/", H5P_DEFAULT);
    int rc;
    if (root < 0)
        return store_fail(s, "/", "cannot be opened", e);
    rc = each_group(s, root, "/", 0, visit, e);
    H5Gclose(root);
    return rc;
}

static int seal_group(store *s, hid_t group, const char *path, err *e)
{
    char hex[HASH_HEX];
    TRY(store_group_digest(s, group, path, hex, e));
    return store_write_attr_text(s, group, path, STORE_DIGEST, hex, e);
}

int store_seal(store *s, err *e)
{
    return from_root(s, seal_group, e);
}

/* A fuzzer (tests/fuzz) shall see what lies behind the digests, which it cannot guess. */
bool store_same_digest(const char *a, const char *b)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void)a;
    (void)b;
    return true;
#else
    return strcmp(a, b) == 0;
#endif
}

static int check_group(store *s, hid_t group, const char *path, err *e)
{
    char now[HASH_HEX], *then = NULL;
    bool same;
    int rc;
    TRY(store_read_attr_text(s, group, path, STORE_DIGEST, &then, e));
    rc = store_group_digest(s, group, path, now, e);
    same = rc == 0 && store_same_digest(now, then);
    free(then);
    if (rc != 0)
        return rc;
    if (!same)
        return store_damage(s, path, "damaged: its contents are not those its sha256 was made of", e);
    if (strcmp(path, "/") == 0)
        memcpy(s->root, now, sizeof now);
    return 0;
}

int store_check_groups(store *s, err *e)
{
    return from_root(s, check_group, e);
}

static bool was_entered(const store *s, const char *path)
{
    for (size_t i = 0; i < s->n_entered; i++)
        if (strcmp(s->entered[i], path) == 0)
            return true;
    return false;
}

/* 0 as well when path is a dataset: its attributes belong to its parent. */
static int enter_one(store *s, const char *path, err *e)
{
    hid_t object;
    int rc = 0;
    if (was_entered(s, path))
        return 0;
    object = H5Oopen(s->file, path, H5P_DEFAULT);
    if (object < 0)
        return store_fail(s, path, "is not in the file", e);
    if (H5Iget_type(object) == H5I_GROUP) {
        rc = check_group(s, object, path, e);
        if (rc == 0) {
            s->entered = mem_grow(s->entered, s->n_entered + 1, sizeof *s->entered);
            s->entered[s->n_entered++] = mem_text(path);
        }
    }
    H5Oclose(object);
    return rc;
}

int store_enter(store *s, const char *path, err *e)
{
    char part[FS_PATH];
    size_t n = strlen(path);
    if (s->writing)
        return 0;
    if (n >= sizeof part)
        return err_set(e, ERR_INPUT, "%s: a path of %zu bytes is too long", s->path, n);
    TRY(enter_one(s, "/", e));
    for (size_t i = 1; i <= n; i++)
        if (path[i] == '/' || (path[i] == '\0' && n > 1)) {
            memcpy(part, path, i);
            part[i] = '\0';
            TRY(enter_one(s, part, e));
        }
    return 0;
}
