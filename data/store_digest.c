/* The tree of sha256 over a store: written leaves first at commit (through HDF5, which still has the file), checked from
 * the root down as far as one reads. */
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
    char hex[HASH_HEX] = "";
    hid_t attr = H5Aopen(object, STORE_DIGEST, H5P_DEFAULT), type = attr >= 0 ? H5Aget_type(attr) : -1;
    bool read = type >= 0 && H5Tget_size(type) == HASH_HEX && H5Aread(attr, type, hex) >= 0;
    if (type >= 0)
        H5Tclose(type);
    if (attr >= 0)
        H5Aclose(attr);
    if (!read)
        return store_fail(s, path, "its digest cannot be read", e);
    add_field(h, hex, strlen(hex));
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

/* ---- reading: the same, over what h5.h reads ---- */

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

static void hash_read_attrs(hash *h, const h5_object *o, bool own_digest)
{
    static const char *const kinds[] = {"text", "I64", "F64"};
    for (size_t i = 0; i < o->n_attrs; i++) {
        const h5_attr *a = &o->attr[i];
        if (!own_digest && strcmp(a->name, STORE_DIGEST) == 0)
            continue;
        add_field(h, a->name, strlen(a->name));
        add_field(h, kinds[a->kind], strlen(kinds[a->kind]));
        add_field(h, a->value, a->kind == H5_TEXT ? strnlen((const char *)a->value, a->bytes) : a->bytes);
    }
}

static int hash_read_child(const store *s, hash *h, const h5_link *link, const char *path, err *e)
{
    char where[FS_PATH], *hex = NULL;
    h5_object o;
    const char *wrong;
    int rc = 0;
    snprintf(where, sizeof where, "%s%s%s", path, strcmp(path, "/") ? "/" : "", link->name);
    wrong = h5_read_object(&o, &s->h5, link->address);
    if (wrong)
        return store_damage(s, where, wrong, e);
    add_field(h, link->name, strlen(link->name));
    if (o.is_dataset)
        hash_read_attrs(h, &o, true);
    else
        rc = store_attr_of(s, &o, where, STORE_DIGEST, &hex, e);
    if (hex)
        add_field(h, hex, strlen(hex));
    free(hex);
    h5_object_free(&o);
    return rc;
}

int store_check_group(store *s, const h5_object *o, const char *path, err *e)
{
    char now[HASH_HEX], *then = NULL;
    bool same;
    int rc;
    hash *h;
    if (o->is_dataset)
        return store_damage(s, path, "is not a group", e);
    TRY(store_attr_of(s, o, path, STORE_DIGEST, &then, e));
    h = hash_new();
    hash_read_attrs(h, o, false);
    rc = 0;
    for (size_t i = 0; rc == 0 && i < o->n_links; i++)
        rc = hash_read_child(s, h, &o->link[i], path, e);
    hash_end(h, now);
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
