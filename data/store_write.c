/* Writing into a store: datasets in chunks with checksums, attributes, texts of fixed length. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/store_impl.h"

enum {
    CHUNK = 1 << 20, /* bytes; larger ones waste space at the tail, smaller ones cost time */
    ASIDE = 1 << 19
};

/* Rows are kept whole: the last dimension is filled first. A dimension that is cut is cut evenly, for every chunk is
 * stored at full size. */
static void chunk_of(hsize_t chunk[STORE_DIMS], store_shape shape, size_t size)
{
    size_t room = CHUNK / size;
    for (int i = shape.n - 1; i >= 0; i--) {
        size_t d = (size_t)shape.d[i], pieces = (d + room - 1) / room;
        chunk[i] = (d + pieces - 1) / pieces;
        room = room / chunk[i] ? room / chunk[i] : 1;
    }
}

/* Values worth a thread: their digest is made while they are written. */
typedef struct {
    pthread_t thread;
    bool aside;
    char hex[HASH_HEX];
    store_shape shape;
    size_t text_bytes, bytes;
    const void *data;
} digester;

static void *digest(void *arg)
{
    digester *d = arg;
    store_values_digest(d->hex, d->shape, d->text_bytes, d->data, d->bytes);
    return NULL;
}

static void start_digest(digester *d)
{
    d->aside = d->bytes >= ASIDE && pthread_create(&d->thread, NULL, digest, d) == 0;
    if (!d->aside)
        digest(d);
}

static void end_digest(digester *d)
{
    if (d->aside)
        pthread_join(d->thread, NULL);
}

/* A scalar or an empty dataset cannot be chunked; HDF5 keeps the first beside its header, under the header's checksum
 * or none, and our own digest covers both. */
static hid_t dataset_properties(store_shape shape, size_t size)
{
    hsize_t chunk[STORE_DIMS];
    hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    bool ok = p >= 0 && H5Pset_obj_track_times(p, 0) >= 0;
    if (ok && shape.n > 0 && store_count(shape) > 0) {
        chunk_of(chunk, shape, size);
        ok = H5Pset_chunk(p, shape.n, chunk) >= 0 && H5Pset_fletcher32(p) >= 0;
    }
    if (!ok && p >= 0)
        H5Pclose(p);
    return ok ? p : -1;
}

/* Groups on the way, without times: HDF5's own making of missing groups would put a clock into their headers. */
static int make_groups(const store *s, const char *path, err *e)
{
    char part[FS_PATH];
    hid_t group, how;
    for (const char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(at - path), path);
        if (H5Lexists(s->file, part, H5P_DEFAULT) > 0)
            continue;
        how = H5Pcreate(H5P_GROUP_CREATE);
        group = -1;
        if (how >= 0 && H5Pset_obj_track_times(how, 0) >= 0)
            group = H5Gcreate2(s->file, part, H5P_DEFAULT, how, H5P_DEFAULT);
        if (how >= 0)
            H5Pclose(how);
        if (group < 0 || H5Gclose(group) < 0)
            return store_fail(s, part, "the group cannot be made", e);
    }
    return 0;
}

static hid_t space_of(store_shape shape)
{
    hsize_t d[STORE_DIMS];
    if (shape.n == 0)
        return H5Screate(H5S_SCALAR);
    for (int i = 0; i < shape.n; i++)
        d[i] = (hsize_t)shape.d[i];
    return H5Screate_simple(shape.n, d, NULL);
}

static hid_t make_dataset(const store *s, const char *path, hid_t type, store_shape shape)
{
    hid_t space = space_of(shape), how = dataset_properties(shape, H5Tget_size(type)), set = -1;
    if (space >= 0 && how >= 0)
        set = H5Dcreate2(s->file, path, type, space, H5P_DEFAULT, how, H5P_DEFAULT);
    if (space >= 0)
        H5Sclose(space);
    if (how >= 0)
        H5Pclose(how);
    return set;
}

static int write_all(store *s, const char *path, hid_t set, hid_t type, store_shape shape, const void *data, err *e)
{
    size_t size = H5Tget_size(type);
    hsize_t chunk[STORE_DIMS] = {0};
    if (store_count(shape) == 0)
        return 0;
    chunk_of(chunk, shape, size);
    if (store_in_rows(chunk, shape))
        return store_write_chunks(s, path, set, chunk[0], shape, size, data, e);
    return H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0 ? store_fail(s, path, "cannot be written", e) : 0;
}

/* The disk begins while the next dataset is made; what is left at commit is little. A hint: it cannot fail anybody. */
static void start_disk(const store *s)
{
    int *fd = NULL;
    if (H5Fget_vfd_handle(s->file, H5P_DEFAULT, (void **)&fd) >= 0 && fd)
        sync_file_range(*fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static int write_values(store *s, const char *path, hid_t type, store_shape shape, size_t text_bytes, const void *data,
                        err *e)
{
    digester d = {.shape = shape,
                  .text_bytes = text_bytes,
                  .bytes = store_count(shape) * H5Tget_size(type),
                  .data = data};
    hid_t set;
    int rc;
    TRY(make_groups(s, path, e));
    set = make_dataset(s, path, type, shape);
    if (set < 0)
        return store_fail(s, path, "cannot be made", e);
    start_digest(&d);
    rc = write_all(s, path, set, type, shape, data, e);
    end_digest(&d);
    if (rc == 0)
        rc = store_write_attr_text(s, set, path, STORE_DIGEST, d.hex, e);
    if (H5Dclose(set) < 0 && rc == 0) /* chunks still in the cache go out here, and may not fit the disk */
        rc = store_fail(s, path, "cannot be written", e);
    if (d.bytes >= ASIDE)
        start_disk(s);
    return rc;
}

int store_put(store *s, const char *path, store_shape shape, const void *data, err *e)
{
    hid_t type = store_h5_type(shape.type);
    int rc;
    CHECK(s->writing && shape.n >= 0 && shape.n <= STORE_DIMS);
    if (type < 0)
        return err_set(e, ERR_INPUT, "%s: %s: %s values cannot be kept", s->path, path, dtype_name(shape.type));
    rc = write_values(s, path, type, shape, 0, data, e);
    H5Tclose(type);
    return rc;
}

static int put_texts(store *s, const char *path, store_shape shape, const char *const text[], err *e)
{
    size_t n = store_count(shape), room = 1;
    char *all;
    hid_t type;
    int rc;
    for (size_t i = 0; i < n; i++)
        if (strlen(text[i]) + 1 > room)
            room = strlen(text[i]) + 1;
    type = store_h5_text(room);
    if (type < 0)
        return store_fail(s, path, "no type for its text", e);
    all = mem_new(n ? n : 1, room);
    for (size_t i = 0; i < n; i++)
        memcpy(all + i * room, text[i], strlen(text[i]));
    rc = write_values(s, path, type, shape, room, all, e);
    free(all);
    H5Tclose(type);
    return rc;
}

int store_put_text(store *s, const char *path, const char *text, err *e)
{
    return put_texts(s, path, (store_shape){.n = 0}, &text, e);
}

int store_put_texts(store *s, const char *path, const char *const text[], int64_t n, err *e)
{
    return put_texts(s, path, (store_shape){.n = 1, .d = {n}}, text, e);
}

/* Closes type. */
static int write_attr(const store *s, hid_t object, const char *path, const char *name, hid_t type, const void *value,
                      err *e)
{
    hid_t space = H5Screate(H5S_SCALAR), attr = -1;
    int rc = 0;
    if (space >= 0 && type >= 0)
        attr = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0 || H5Awrite(attr, type, value) < 0)
        rc = store_fail(s, path, "an attribute cannot be written", e);
    if (attr >= 0 && H5Aclose(attr) < 0 && rc == 0)
        rc = store_fail(s, path, "an attribute cannot be written", e);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return rc;
}

int store_write_attr_text(const store *s, hid_t object, const char *path, const char *name, const char *v, err *e)
{
    return write_attr(s, object, path, name, store_h5_text(strlen(v) + 1), v, e);
}

static int attr_at(store *s, const char *path, const char *name, hid_t type, const void *value, err *e)
{
    hid_t object = H5Oopen(s->file, path, H5P_DEFAULT);
    int rc;
    CHECK(s->writing);
    if (object < 0) {
        rc = store_fail(s, path, "is not there to be given an attribute", e);
        H5Tclose(type);
        return rc;
    }
    rc = write_attr(s, object, path, name, type, value, e);
    H5Oclose(object);
    return rc;
}

int store_attr_text(store *s, const char *path, const char *name, const char *value, err *e)
{
    return attr_at(s, path, name, store_h5_text(strlen(value) + 1), value, e);
}

int store_attr_int(store *s, const char *path, const char *name, int64_t value, err *e)
{
    return attr_at(s, path, name, H5Tcopy(H5T_STD_I64LE), &value, e);
}

int store_attr_real(store *s, const char *path, const char *name, double value, err *e)
{
    return attr_at(s, path, name, H5Tcopy(H5T_IEEE_F64LE), &value, e);
}
