#include "data/image_list.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/caption.h"
#include "data/image.h"

static void push(image_list *l, const char *path, const char *caption)
{
    l->at = mem_grow(l->at, l->n + 1, sizeof *l->at);
    l->at[l->n++] = (image_entry){mem_text(path), mem_text(caption)};
}

void image_list_free(image_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->at[i].path);
        free(l->at[i].caption);
    }
    free(l->at);
    *l = (image_list){0};
}

/* Length of a run of digits and, past its zeros, where its value begins. */
static size_t digits(const char **value, const char *s)
{
    size_t n = strspn(s, "0123456789"), zeros = strspn(s, "0");

    zeros = zeros < n ? zeros : n;
    *value = s + zeros;
    return n - zeros;
}

int image_list_order(const char *a, const char *b)
{
    const char *first = a, *second = b;

    while (*a && *b) {
        if (!isdigit((unsigned char)*a) || !isdigit((unsigned char)*b)) {
            if (*a != *b)
                return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
            a++;
            b++;
            continue;
        }
        const char *x, *y;
        size_t m = digits(&x, a), n = digits(&y, b);
        int c = m != n ? (m < n ? -1 : 1) : memcmp(x, y, m);
        if (c != 0)
            return c;
        a = x + m;
        b = y + n;
    }
    if (*a || *b)
        return *a ? 1 : -1;
    return strcmp(first, second); /* "01" and "1" are not the same name */
}

static int by_name(const void *a, const void *b)
{
    return image_list_order(*(char *const *)a, *(char *const *)b);
}

static int empty_folder(const char *folder, char *const names[], size_t n, err *e)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "images.txt") == 0)
            return err_set(e, ERR_INPUT, "%s: a folder without pictures but with a list; name %s/images.txt", folder,
                           folder);
    return err_set(e, ERR_INPUT, "%s: no .jpg, .jpeg, .png or .webp in this folder; name the one with the pictures",
                   folder);
}

static int add_folder(image_list *l, const char *folder, err *e)
{
    char **names, path[FS_PATH];
    size_t n, before = l->n;
    int rc = 0;

    TRY(fs_list(&names, &n, folder, e));
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (!image_named(names[i]))
            continue;
        if ((rc = fs_join(path, folder, names[i], e)) == 0)
            push(l, path, NULL);
    }
    if (rc == 0 && l->n == before)
        rc = empty_folder(folder, names, n, e);
    fs_list_free(names);
    return rc;
}

/* A path of a list: from the list's own folder, or from root as the published lists have it. */
static int locate(char out[FS_PATH], const char *list, const char *root, const char *name, err *e)
{
    char folder[FS_PATH];

    TRY(fs_join(folder, "", list, e));
    folder[fs_base(list) - list] = 0;
    TRY(fs_join(out, folder, name, e));
    if (fs_exists(out))
        return 0;
    TRY(fs_join(out, root, name, e));
    if (fs_exists(out))
        return 0;
    return err_set(e, ERR_INPUT, "%s: no such file, from the list's folder or from %s", name, root);
}

static int add_list(image_list *l, const char *list, const char *root, err *e)
{
    caption_lines lines;
    char path[FS_PATH];
    int rc = 0;

    TRY(caption_read(&lines, list, e));
    for (size_t i = 0; i < lines.n && rc == 0; i++) {
        char *caption = strchr(lines.at[i], '\t');
        if (caption)
            *caption++ = 0;
        if ((rc = locate(path, list, root, lines.at[i], e)) == 0)
            push(l, path, caption);
        else
            err_wrap(e, "%s: line %zu", list, i + 1);
    }
    caption_free(&lines);
    return rc;
}

static int not_there(const char *path, err *e)
{
    char folder[FS_PATH], **names;
    size_t n;

    if (readlink(path, folder, sizeof folder) >= 0)
        return err_set(e, ERR_INPUT, "%s: a link to something that is not there", path);
    TRY(fs_join(folder, "", path, e));
    folder[fs_base(path) - path] = 0;
    for (size_t k = strlen(folder); k > 1 && folder[k - 1] == '/'; k--)
        folder[k - 1] = 0;
    if (fs_list(&names, &n, folder[0] ? folder : ".", NULL) != 0)
        return err_set(e, ERR_INPUT, "%s: no such file or folder, nor is there a folder %s", path, folder);
    const char *near = str_nearest(fs_base(path), (const char *const *)names);
    if (near)
        err_set(e, ERR_INPUT, "%s: no such file or folder; there is %s beside it", path, near);
    else
        err_set(e, ERR_INPUT, "%s: no such file or folder", path);
    fs_list_free(names);
    return ERR_INPUT;
}

int image_list_add(image_list *l, const char *root, const char *given, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, root, given, e));
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = 0;
    if (!fs_exists(path))
        return not_there(path, e);
    if (fs_is_dir(path))
        return add_folder(l, path, e);
    if (!image_named(path))
        return add_list(l, path, root, e);
    push(l, path, NULL);
    return 0;
}

/* X.txt for X.jpg; false where there is none. */
static bool beside(char out[FS_PATH], const char *picture)
{
    if (!str_copy(out, FS_PATH - 4, picture))
        return false;
    strcpy(strrchr(out, '.'), ".txt");
    return fs_exists(out);
}

int image_list_beside(image_list *l, err *e)
{
    char path[FS_PATH];
    const char *without = NULL;
    size_t told = 0;

    for (size_t i = 0; i < l->n; i++) {
        image_entry *m = &l->at[i];
        caption_lines lines;
        if (!m->caption && strrchr(fs_base(m->path), '.') && beside(path, m->path)) {
            TRY(caption_read(&lines, path, e));
            m->caption = mem_text(lines.at[0]);
            size_t n = lines.n;
            caption_free(&lines);
            if (n != 1)
                return err_set(e, ERR_INPUT, "%s: %zu lines; the caption of one picture is one line", path, n);
        }
        told += m->caption != NULL;
        without = m->caption ? without : m->path;
    }
    if (told > 0 && without)
        return err_set(e, ERR_INPUT, "%s: no caption, but %zu of the %zu pictures have one; write it or take them out",
                       without, told, l->n);
    return 0;
}
