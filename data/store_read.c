/* Reading from a store: whatever leaves here has been checked against its sha256. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/store_impl.h"

/* A dataset opened and measured. */
typedef struct {
    hid_t set, type;
    store_shape shape;
    size_t text;  /* bytes of one text; 0: numbers */
    size_t bytes; /* of all values */
    hsize_t rows; /* of a chunk that is a run of whole rows with a checksum; 0: HDF5 shall read it */
} opened;

static void close_dataset(opened *o)
{
    if (o->type >= 0)
        H5Tclose(o->type);
    if (o->set >= 0)
        H5Dclose(o->set);
}

/* Raw data of a dataset of ours lie in this file; a layout that points elsewhere (external, virtual) or a filter other
 * than the checksum is somebody else's and may be meant ill. */
static bool plain_layout(hid_t set)
{
    hid_t p = H5Dget_create_plist(set);
    bool ok;
    if (p < 0)
        return false;
    ok = H5Pget_layout(p) != H5D_VIRTUAL && H5Pget_layout(p) != H5D_LAYOUT_ERROR && H5Pget_external_count(p) == 0;
    for (int i = 0, n = H5Pget_nfilters(p); ok && i < n; i++) {
        size_t none = 0;
        ok = H5Pget_filter2(p, (unsigned)i, NULL, &none, NULL, 0, NULL, NULL) == H5Z_FILTER_FLETCHER32;
    }
    H5Pclose(p);
    return ok;
}

/* Larger than the file is damage, which HDF5 shall find. */
static hsize_t rows_of_chunk(const store *s, const opened *o)
{
    hsize_t chunk[H5S_MAX_RANK], bytes = H5Tget_size(o->type);
    hid_t p = H5Dget_create_plist(o->set);
    bool ok = p >= 0 && H5Pget_layout(p) == H5D_CHUNKED && H5Pget_nfilters(p) == 1 &&
              H5Pget_chunk(p, H5S_MAX_RANK, chunk) == o->shape.n && store_in_rows(chunk, o->shape);
    if (p >= 0)
        H5Pclose(p);
    for (int i = 0; ok && i < o->shape.n; bytes *= chunk[i++])
        ok = chunk[i] > 0 && chunk[i] <= s->file_bytes && bytes <= s->file_bytes / chunk[i];
    return ok ? chunk[0] : 0;
}

static int measure_space(const store *s, const char *path, opened *o, err *e)
{
    hsize_t d[H5S_MAX_RANK];
    hid_t space = H5Dget_space(o->set);
    int n = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    bool ok = n >= 0 && n <= STORE_DIMS && H5Sget_simple_extent_dims(space, d, NULL) == n &&
              H5Sget_simple_extent_type(space) != H5S_NULL;
    if (space >= 0)
        H5Sclose(space);
    if (!ok)
        return store_damage(s, path, "has dimensions this program never writes", e);
    o->shape.n = n;
    o->bytes = H5Tget_size(o->type);
    for (int i = 0; i < n; i++) {
        o->shape.d[i] = (int64_t)d[i];
        /* Nothing is compressed: values larger than the file are damage, and are not given memory. */
        if (d[i] > s->file_bytes || (d[i] > 0 && o->bytes > s->file_bytes / d[i]))
            return store_damage(s, path, "claims to be larger than its file", e);
        o->bytes *= d[i];
    }
    return 0;
}

static int measure_type(const store *s, const char *path, opened *o, err *e)
{
    o->type = H5Dget_type(o->set);
    if (o->type < 0)
        return store_fail(s, path, "has no readable type", e);
    if (H5Tget_class(o->type) == H5T_STRING && H5Tis_variable_str(o->type) == 0) {
        o->text = H5Tget_size(o->type);
        o->shape.type = U8;
        return o->text <= s->file_bytes ? 0 : store_damage(s, path, "claims to be larger than its file", e);
    }
    if (!store_our_type(o->type, &o->shape.type))
        return store_damage(s, path, "has an element type this program never writes", e);
    return 0;
}

static int open_dataset(store *s, const char *path, opened *o, err *e)
{
    int rc;
    *o = (opened){.set = -1, .type = -1};
    CHECK(!s->writing);
    TRY(store_enter(s, path, e));
    o->set = H5Dopen2(s->file, path, H5P_DEFAULT);
    if (o->set < 0)
        return store_fail(s, path, "is not a readable dataset", e);
    rc = plain_layout(o->set) ? 0 : store_damage(s, path, "is stored in a way this program never uses", e);
    if (rc == 0)
        rc = measure_type(s, path, o, e);
    if (rc == 0)
        rc = measure_space(s, path, o, e);
    if (rc == 0)
        o->rows = rows_of_chunk(s, o);
    else
        close_dataset(o);
    return rc;
}

/* What HDF5 reads as a whole. */
static int read_whole(const store *s, const char *path, const opened *o, void *to, hash *h, err *e)
{
    if (o->bytes > 0 && H5Dread(o->set, o->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to) < 0)
        return store_fail(s, path, "its values cannot be read", e);
    hash_add(h, to, o->bytes);
    return 0;
}

static int read_values(const store *s, const char *path, const opened *o, void *to, err *e)
{
    char now[HASH_HEX], *then = NULL;
    hash *h = store_digest_of(o->shape, o->text, o->bytes);
    bool same;
    int rc = o->rows ? store_read_chunks(s, path, o->set, o->rows, o->shape, H5Tget_size(o->type), to, h, e)
                     : read_whole(s, path, o, to, h, e);
    hash_end(h, now);
    TRY(rc);
    TRY(store_read_attr_text(s, o->set, path, STORE_DIGEST, &then, e));
    same = store_same_digest(now, then);
    free(then);
    return same ? 0 : store_damage(s, path, "damaged: its values are not those its sha256 was made of", e);
}

static int not_as_wanted(const store *s, const char *path, const opened *o, store_shape want, err *e)
{
    char found[80], wanted[80];
    const store_shape *at[2] = {&o->shape, &want};
    char *text[2] = {found, wanted};
    for (int k = 0; k < 2; k++) {
        size_t n = 0;
        text[k][0] = '\0';
        for (int i = 0; i < at[k]->n; i++)
            n += (size_t)snprintf(text[k] + n, 80 - n, i ? ",%lld" : "%lld", (long long)at[k]->d[i]);
    }
    return err_set(e, ERR_SHAPE, "%s: %s: %s [%s] where %s [%s] is wanted (-1: any)", s->path, path,
                   o->text ? "text" : dtype_name(o->shape.type), found, dtype_name(want.type), wanted);
}

static bool is_wanted(const opened *o, store_shape want)
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
    opened o;
    int rc;
    TRY(open_dataset(s, path, &o, e));
    rc = is_wanted(&o, want) ? read_values(s, path, &o, to, e) : not_as_wanted(s, path, &o, want, e);
    close_dataset(&o);
    return rc;
}

int store_load(store *s, const char *path, store_shape want, void **to, store_shape *shape, err *e)
{
    opened o;
    int rc;
    void *at = NULL;
    TRY(open_dataset(s, path, &o, e));
    rc = is_wanted(&o, want) ? mem_big(&at, o.bytes ? o.bytes : 1, path, e) : not_as_wanted(s, path, &o, want, e);
    if (rc == 0)
        rc = read_values(s, path, &o, at, e);
    close_dataset(&o);
    if (rc != 0) {
        free(at);
        return rc;
    }
    *to = at;
    if (shape)
        *shape = o.shape;
    return 0;
}

/* All texts of a dataset as one block of n times o->text bytes; the last byte of each is made 0. */
static int load_block(store *s, const char *path, opened *o, char **block, err *e)
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
    opened o;
    int rc;
    TRY(open_dataset(s, path, &o, e));
    rc = o.shape.n == 0 ? load_block(s, path, &o, text, e) : store_damage(s, path, "is not one text", e);
    close_dataset(&o);
    return rc;
}

int store_load_texts(store *s, const char *path, char ***text, int64_t *n, err *e)
{
    opened o;
    char *block = NULL, **list;
    int rc;
    TRY(open_dataset(s, path, &o, e));
    rc = o.shape.n == 1 ? load_block(s, path, &o, &block, e) : store_damage(s, path, "is not a list of texts", e);
    close_dataset(&o);
    if (rc != 0)
        return rc;
    *n = o.shape.d[0];
    list = NEW_N(char *, *n + 1);
    for (int64_t i = 0; i < *n; i++)
        list[i] = mem_text(block + (size_t)i * o.text);
    free(block);
    *text = list;
    return 0;
}

int store_shape_of(store *s, const char *path, store_shape *out, err *e)
{
    opened o;
    TRY(open_dataset(s, path, &o, e));
    *out = o.shape;
    close_dataset(&o);
    return 0;
}

/* H5Lexists wants every step on the way to exist. */
bool store_has(store *s, const char *path)
{
    char part[FS_PATH];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return false;
    for (size_t i = 1; i <= n && n > 1; i++)
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(part, path, i);
            part[i] = '\0';
            if (H5Lexists(s->file, part, H5P_DEFAULT) <= 0)
                return false;
        }
    return true;
}

/* ---- attributes ---- */

int store_read_attr_text(const store *s, hid_t object, const char *path, const char *name, char **out, err *e)
{
    hid_t attr = H5Aopen(object, name, H5P_DEFAULT), type = -1;
    size_t n;
    char *text = NULL;
    int rc = 0;
    if (attr < 0)
        return err_set(e, ERR_INPUT, "%s: %s: has no attribute %s", s->path, path, name);
    type = H5Aget_type(attr);
    n = type >= 0 ? H5Tget_size(type) : 0;
    if (n == 0 || n > s->file_bytes || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        H5Aget_storage_size(attr) != n)
        rc = err_set(e, ERR_INPUT, "%s: %s: attribute %s is not a text", s->path, path, name);
    if (rc == 0) {
        text = mem_new(n + 1, 1);
        if (H5Aread(attr, type, text) < 0)
            rc = store_fail(s, path, "an attribute cannot be read", e);
    }
    if (type >= 0)
        H5Tclose(type);
    H5Aclose(attr);
    if (rc != 0)
        free(text);
    else
        *out = text;
    return rc;
}

static int open_entered(store *s, const char *path, hid_t *object, err *e)
{
    TRY(store_enter(s, path, e));
    *object = H5Oopen(s->file, path, H5P_DEFAULT);
    return *object >= 0 ? 0 : store_fail(s, path, "is not in the file", e);
}

int store_get_text(store *s, const char *path, const char *name, char **text, err *e)
{
    hid_t object;
    int rc;
    TRY(open_entered(s, path, &object, e));
    rc = store_read_attr_text(s, object, path, name, text, e);
    H5Oclose(object);
    return rc;
}

static int get_number(store *s, const char *path, const char *name, hid_t kind, void *value, err *e)
{
    hid_t object, attr, type;
    bool ok;
    TRY(open_entered(s, path, &object, e));
    attr = H5Aopen(object, name, H5P_DEFAULT);
    type = attr >= 0 ? H5Aget_type(attr) : -1;
    ok = type >= 0 && H5Tequal(type, kind) > 0 && H5Aget_storage_size(attr) == 8 && H5Aread(attr, kind, value) >= 0;
    if (type >= 0)
        H5Tclose(type);
    if (attr >= 0)
        H5Aclose(attr);
    H5Oclose(object);
    return ok ? 0 : err_set(e, ERR_INPUT, "%s: %s: has no number %s", s->path, path, name);
}

int store_get_int(store *s, const char *path, const char *name, int64_t *value, err *e)
{
    return get_number(s, path, name, H5T_STD_I64LE, value, e);
}

int store_get_real(store *s, const char *path, const char *name, double *value, err *e)
{
    return get_number(s, path, name, H5T_IEEE_F64LE, value, e);
}

bool store_has_attr(store *s, const char *path, const char *name)
{
    return H5Aexists_by_name(s->file, path, name, H5P_DEFAULT) > 0;
}

/* ---- listing ---- */

int store_names(store *s, const char *group, char ***names, size_t *n, err *e)
{
    H5G_info_t info;
    *n = 0;
    *names = NEW_N(char *, 1);
    if (!store_has(s, group))
        return 0;
    TRY(store_enter(s, group, e));
    if (H5Gget_info_by_name(s->file, group, &info, H5P_DEFAULT) < 0)
        return store_fail(s, group, "is not a readable group", e);
    if (info.nlinks > s->file_bytes)
        return store_damage(s, group, "claims more children than its file has bytes", e);
    *names = mem_grow(*names, info.nlinks + 1, sizeof **names);
    for (; *n < info.nlinks; (*n)++) {
        char name[512];
        ssize_t len =
            H5Lget_name_by_idx(s->file, group, H5_INDEX_NAME, H5_ITER_INC, *n, name, sizeof name, H5P_DEFAULT);
        (*names)[*n] = NULL;
        if (len < 0 || (size_t)len >= sizeof name)
            return store_fail(s, group, "its list of children cannot be read", e);
        (*names)[*n] = mem_text(name);
    }
    (*names)[*n] = NULL;
    return 0;
}

void store_names_free(char **names)
{
    for (char **at = names; at && *at; at++)
        free(*at);
    free(names);
}

static int check_tree(store *s, const char *path, int depth, err *e);

static int check_child(store *s, const char *group, const char *name, int depth, err *e)
{
    char path[FS_PATH];
    H5O_info_t info;
    opened o;
    void *values = NULL;
    int rc;
    snprintf(path, sizeof path, "%s%s%s", group, strcmp(group, "/") ? "/" : "", name);
    if (H5Oget_info_by_name2(s->file, path, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0)
        return store_fail(s, path, "cannot be looked at", e);
    if (info.type == H5O_TYPE_GROUP)
        return check_tree(s, path, depth + 1, e);
    TRY(open_dataset(s, path, &o, e));
    rc = mem_big(&values, o.bytes ? o.bytes : 1, path, e);
    if (rc == 0)
        rc = read_values(s, path, &o, values, e);
    free(values);
    close_dataset(&o);
    return rc;
}

static int check_tree(store *s, const char *path, int depth, err *e)
{
    char **names;
    size_t n;
    int rc;
    if (depth > STORE_DEPTH)
        return store_damage(s, path, "groups are nested deeper than this program writes them", e);
    rc = store_names(s, path, &names, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = check_child(s, path, names[i], depth, e);
    store_names_free(names);
    return rc;
}

int store_check(store *s, err *e)
{
    TRY(store_check_groups(s, e));
    return check_tree(s, "/", 0, e);
}
