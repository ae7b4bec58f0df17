/* Opening, creating and committing a store; how HDF5's types and errors become ours. */
#include "data/store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/mem.h"

/* HDF5 keeps its errors in a stack, innermost first when walked upward. */
static herr_t innermost(unsigned n, const H5E_error2_t *at, void *text)
{
    (void)n;
    if (at->desc && at->desc[0])
        *(const char **)text = at->desc;
    return 1;
}

int store_fail(const store *s, const char *path, const char *what, err *e)
{
    const char *said = "HDF5 gave no reason";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, &said);
    return err_set(e, s->writing ? ERR_IO : ERR_INPUT, "%s: %s: %s (HDF5: %s)", s->path, path, what, said);
}

int store_damage(const store *s, const char *path, const char *what, err *e)
{
    return err_set(e, ERR_INPUT, "%s: %s: %s", s->path, path, what);
}

/* Sign, exponent, mantissa of the two 16-bit floats; h5py reads the first as float16. */
static hid_t half_type(size_t exponent_bits, size_t mantissa_bits)
{
    hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    if (t < 0)
        return t;
    if (H5Tset_fields(t, 15, mantissa_bits, exponent_bits, 0, mantissa_bits) < 0 || H5Tset_size(t, 2) < 0 ||
        H5Tset_ebias(t, ((size_t)1 << (exponent_bits - 1)) - 1) < 0) {
        H5Tclose(t);
        return -1;
    }
    return t;
}

hid_t store_h5_type(dtype t)
{
    switch (t) {
    case F32: return H5Tcopy(H5T_IEEE_F32LE);
    case F64: return H5Tcopy(H5T_IEEE_F64LE);
    case F16: return half_type(5, 10);
    case BF16: return half_type(8, 7);
    case I32: return H5Tcopy(H5T_STD_I32LE);
    case I64: return H5Tcopy(H5T_STD_I64LE);
    case U8: return H5Tcopy(H5T_STD_U8LE);
    default: return -1;
    }
}

hid_t store_h5_text(size_t bytes)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    if (t >= 0 && (H5Tset_size(t, bytes) < 0 || H5Tset_cset(t, H5T_CSET_UTF8) < 0)) {
        H5Tclose(t);
        return -1;
    }
    return t;
}

size_t store_count(store_shape shape)
{
    size_t n = 1;
    for (int i = 0; i < shape.n; i++)
        n *= (size_t)shape.d[i];
    return n;
}

/* No lock: network file systems without locks are common where farms run, and nobody else knows the name. Everything is
 * closed with the file, so an error on the way leaks nothing. */
hid_t store_access(void)
{
    hid_t p = H5Pcreate(H5P_FILE_ACCESS);
    if (p < 0)
        return p;
    if (H5Pset_libver_bounds(p, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
        H5Pset_fclose_degree(p, H5F_CLOSE_STRONG) < 0 || H5Pset_file_locking(p, 0, 1) < 0) {
        H5Pclose(p);
        return -1;
    }
    return p;
}

static store *new_store(const char *path, bool writing)
{
    store *s = NEW(store);
    if (writing) {
        H5dont_atexit(); /* what a full disk kept H5Fclose from closing would be closed again at exit, and crash there */
        H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* errors are told by us, once */
    }
    s->file = -1;
    s->writing = writing;
    snprintf(s->path, sizeof s->path, "%s", path);
    return s;
}

static void free_store(store *s)
{
    store_forget_groups(s);
    h5_close(&s->h5);
    free(s);
}

static hid_t create_file(const char *path)
{
    hid_t access = store_access(), how = H5Pcreate(H5P_FILE_CREATE), file = -1;
    if (access >= 0 && how >= 0 && H5Pset_obj_track_times(how, 0) >= 0) /* no clock in the bytes */
        file = H5Fcreate(path, H5F_ACC_TRUNC, how, access);
    if (access >= 0)
        H5Pclose(access);
    if (how >= 0)
        H5Pclose(how);
    return file;
}

/* The file is made here first, because HDF5 does not say why it could not. */
static int reserve(const store *s, err *e)
{
    int fd = open(s->aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_set(e, ERR_IO, "%s: cannot be created: %s", s->path, strerror(errno));
    close(fd);
    return 0;
}

int store_create(store **out, const char *path, err *e)
{
    store *s = new_store(path, true);
    int rc = fs_aside(s->aside, path, e);
    if (rc == 0)
        rc = reserve(s, e);
    if (rc == 0) {
        s->file = create_file(s->aside);
        if (s->file < 0) {
            rc = store_fail(s, "/", "cannot be written", e);
            fs_discard(s->aside);
        }
    }
    if (rc != 0)
        free_store(s);
    else
        *out = s;
    return rc;
}

static int open_file(store *s, const char *path, err *e)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_INPUT, "%s: no such file", path);
    TRY(h5_open(&s->h5, path, e));
    return store_enter(s, "/", NULL, e);
}

int store_open(store **out, const char *path, err *e)
{
    store *s = new_store(path, false);
    int rc = open_file(s, path, e);
    if (rc != 0) {
        store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void store_close(store *s)
{
    if (s)
        free_store(s);
}

/* A full disk can pass H5Fflush and H5Fclose unnoticed (their writes of metadata come late), so what was written is
 * opened again and every group's digest checked before the file gets its name. */
static int look_again(const store *s, err *e)
{
    store *back = new_store(s->path, false);
    int rc = open_file(back, s->aside, e);
    if (rc == 0)
        rc = store_check_groups(back, e);
    store_close(back);
    return rc == 0 ? 0 : err_set(e, ERR_IO, "%s: what was written cannot be read back; the disk may be full", s->path);
}

int store_commit(store *s, err *e)
{
    int rc = store_seal(s, e);
    if (rc == 0 && H5Fflush(s->file, H5F_SCOPE_GLOBAL) < 0)
        rc = store_fail(s, "/", "cannot be flushed", e);
    if (H5Fclose(s->file) < 0 && rc == 0)
        rc = store_fail(s, "/", "cannot be closed", e);
    s->file = -1;
    if (rc == 0)
        rc = look_again(s, e);
    if (rc == 0)
        rc = fs_commit(s->aside, s->path, e);
    else
        fs_discard(s->aside);
    free_store(s);
    return rc;
}

void store_drop(store *s)
{
    if (!s)
        return;
    if (s->file >= 0)
        H5Fclose(s->file);
    fs_discard(s->aside);
    free_store(s);
}

const char *store_digest(const store *s)
{
    return s->root;
}
