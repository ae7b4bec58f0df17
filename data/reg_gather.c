#include "data/reg_gather.h"

#include <stdlib.h>
#include <string.h>
#include <unistr.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/image.h"
#include "data/tar.h"

enum { LIST_MOST = 1 << 30 };

/* ---- entries ---- */

static const char *keep(reg_gathered *g, char *text)
{
    if (g->owned == g->own_room)
        g->own = mem_grow(g->own, g->own_room = 2 * g->own_room + 256, sizeof *g->own);
    return g->own[g->owned++] = text;
}

/* The text with blanks joined and none around it; NULL: no caption can be made of it. */
static char *cleaned(const char *text, size_t n)
{
    str out = {0};

    if (n > REG_CAPTION_MOST || memchr(text, '\0', n) || u8_check((const uint8_t *)text, n))
        return NULL;
    for (size_t i = 0; i < n; i++) {
        bool blank = strchr(" \t\r\n\v\f", text[i]) != NULL;
        if (!blank)
            str_put(&out, text + i, 1);
        else if (out.n > 0 && out.at[out.n - 1] != ' ')
            str_put(&out, " ", 1);
    }
    if (out.n > 0 && out.at[out.n - 1] == ' ')
        out.at[--out.n] = '\0';
    if (out.n == 0)
        str_free(&out);
    return out.at;
}

static void add(reg_gathered *g, const char *path, uint64_t at, uint64_t size, const char *caption, size_t n)
{
    char *clean = cleaned(caption, n);

    if (!clean) {
        g->unreadable++;
        return;
    }
    if (g->n == g->room)
        g->at = mem_grow(g->at, g->room = 2 * g->room + 256, sizeof *g->at);
    g->at[g->n++] = (reg_entry){.path = path, .caption = keep(g, clean), .at = at, .size = size};
}

void reg_gathered_free(reg_gathered *g)
{
    for (size_t i = 0; i < g->owned; i++)
        free(g->own[i]);
    free(g->own);
    free(g->at);
    *g = (reg_gathered){0};
}

/* The caption of a JSON file into g; one without counts as a picture without. */
static void add_json(reg_gathered *g, const char *path, uint64_t at, uint64_t size, const void *text, size_t n)
{
    json_t *o = NULL;
    const char *caption = NULL;

    if (n <= REG_JSON_MOST && json_parse(&o, text, n, "caption", NULL) == 0) {
        caption = json_string_value(json_object_get(o, "caption"));
        if (!caption)
            caption = json_string_value(json_object_get(o, "text"));
        if (caption)
            add(g, path, at, size, caption, strlen(caption));
        else
            g->without++;
    } else
        g->unreadable++;
    json_decref(o);
}

/* ---- archives ---- */

/* What of a sample was seen. */
typedef struct {
    char key[TAR_NAME];
    uint64_t at, size;     /* of its picture; size 0: none yet */
    const void *text, *json;
    size_t text_n, json_n;
} sample;

static void end_sample(reg_gathered *g, const char *path, sample *s)
{
    if (s->size > 0 && s->text)
        add(g, path, s->at, s->size, s->text, s->text_n);
    else if (s->size > 0 && s->json)
        add_json(g, path, s->at, s->size, s->json, s->json_n);
    else if (s->size > 0)
        g->without++;
    s->size = 0;
    s->text = s->json = NULL;
}

/* Up to the first dot of the last part of the name. */
static size_t key_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    size_t folder = slash ? (size_t)(slash - name) + 1 : 0;

    return folder + strcspn(name + folder, ".");
}

static void see_member(reg_gathered *g, const char *path, sample *s, const tar_member *m)
{
    size_t n = key_length(m->name);

    if (strlen(s->key) != n || memcmp(s->key, m->name, n) != 0) {
        end_sample(g, path, s);
        memcpy(s->key, m->name, n);
        s->key[n] = '\0';
    }
    if (image_named(m->name) && m->n > 0) {
        s->at = m->at;
        s->size = m->n;
    } else if (str_ends(m->name, ".txt")) {
        s->text = m->bytes;
        s->text_n = m->n;
    } else if (str_ends(m->name, ".json")) {
        s->json = m->bytes;
        s->json_n = m->n;
    }
}

static int add_tar(reg_gathered *g, const char *path, err *e)
{
    const char *kept = keep(g, mem_text(path));
    tar_member *m = NEW(tar_member);
    sample *s = NEW(sample);
    tar *t = NULL;
    bool more = true;
    int rc = tar_open(&t, path, e);

    while (rc == 0 && more) {
        rc = tar_next(t, m, &more, e);
        if (rc == 0 && more)
            see_member(g, kept, s, m);
    }
    if (rc == 0)
        end_sample(g, kept, s);
    tar_close(t);
    free(s);
    free(m);
    return rc;
}

/* ---- lists ---- */

static void see_line(reg_gathered *g, const char *folder, char *line)
{
    char path[FS_PATH], *tab = strchr(line, '\t');

    if (tab)
        *tab = '\0';
    if (!tab || fs_join(path, folder, line, NULL) != 0)
        g->without++;
    else if (!fs_exists(path))
        g->missing++;
    else
        add(g, keep(g, mem_text(path)), 0, 0, tab + 1, strlen(tab + 1));
}

static int add_list(reg_gathered *g, const char *path, err *e)
{
    char folder[FS_PATH], *text, *slash;
    size_t n;

    CHECK(str_copy(folder, sizeof folder, path));
    slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    TRY(fs_read(path, &text, &n, LIST_MOST, e));
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (*line)
            see_line(g, slash ? folder : ".", line);
    }
    free(text);
    return 0;
}

/* ---- folders ---- */

/* X.jpg -> X.txt; false where that is too long. */
static bool beside(char out[FS_PATH], const char *picture, const char *ending)
{
    const char *dot = strrchr(fs_base(picture), '.');
    size_t n = dot ? (size_t)(dot - picture) : strlen(picture);

    if (n + strlen(ending) >= FS_PATH)
        return false;
    memcpy(out, picture, n);
    strcpy(out + n, ending);
    return true;
}

static void add_picture(reg_gathered *g, const char *path)
{
    char caption[FS_PATH], *text;
    size_t n;
    bool json = false;

    if (!beside(caption, path, ".txt") || !fs_exists(caption))
        json = beside(caption, path, ".json") && fs_exists(caption);
    if (!json && !fs_exists(caption)) {
        g->without++;
        return;
    }
    if (fs_read(caption, &text, &n, REG_JSON_MOST, NULL) != 0) {
        g->unreadable++;
        return;
    }
    const char *kept = keep(g, mem_text(path));
    if (json)
        add_json(g, kept, 0, 0, text, n);
    else
        add(g, kept, 0, 0, text, n);
    free(text);
}

static int add_folder(reg_gathered *g, const char *folder, int depth, err *e)
{
    char **names, path[FS_PATH];
    size_t n;
    int rc = 0;

    if (depth > REG_DEPTH_MOST)
        return err_set(e, ERR_INPUT, "%s: more than %d folders deep", folder, REG_DEPTH_MOST);
    TRY(fs_list(&names, &n, folder, e));
    for (size_t i = 0; i < n && rc == 0; i++) {
        if ((rc = fs_join(path, folder, names[i], e)) != 0)
            break;
        if (fs_is_dir(path))
            rc = add_folder(g, path, depth + 1, e);
        else if (str_ends(names[i], ".tar"))
            rc = add_tar(g, path, e);
        else if (image_named(names[i]))
            add_picture(g, path);
    }
    fs_list_free(names);
    return rc;
}

/* Paths are kept absolute: an index is used from elsewhere. */
int reg_gather(reg_gathered *out, const char *given, err *e)
{
    size_t before = out->n;
    char *path = realpath(given, NULL);
    int rc;

    if (!path)
        return err_set(e, ERR_INPUT, "%s: no such folder, list or archive", given);
    if (fs_is_dir(path))
        rc = add_folder(out, path, 0, e);
    else if (str_ends(path, ".tsv") || str_ends(path, ".txt"))
        rc = add_list(out, path, e);
    else
        rc = add_tar(out, path, e);
    free(path);
    if (rc == 0 && out->n == before)
        rc = err_set(e, ERR_INPUT,
                     "%s: no captioned picture in it (%zu without a caption, %zu with one that is no text, %zu not "
                     "there)",
                     given, out->without, out->unreadable, out->missing);
    return rc;
}
