/* The tree of sha256 over a store: made leaves first at commit, checked from the root down as far as one reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/store_impl.h"

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

static void hash_attrs(hash *h, const h5_object *o, bool own_digest)
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

void store_node_digest(const store_node *group, char hex[HASH_HEX])
{
    hash *h = hash_new();
    hash_attrs(h, &group->o, false);
    for (size_t i = 0; i < group->n; i++) {
        const store_node *child = group->child[i];
        const h5_attr *digest = h5_find_attr(&child->o, STORE_DIGEST);
        add_field(h, child->name, strlen(child->name));
        if (child->o.is_dataset)
            hash_attrs(h, &child->o, true);
        else
            add_field(h, digest->value, HASH_HEX - 1);
    }
    hash_end(h, hex);
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
        hash_attrs(h, &o, true);
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
    hash_attrs(h, o, false);
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
