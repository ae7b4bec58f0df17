#include "scheduler/quarantine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/json.h"
#include "cluster/base/str.h"

enum { LINES = 200, TAIL = 1 << 18 };

static int write_text(const char *dir, const char *name, const char *text, size_t n, err *e)
{
    char path[FS_PATH];

    TRY(fs_join(path, dir, name, e));
    return fs_write(path, text, n, e);
}

static int write_json(const char *dir, const char *name, const json_t *o, err *e)
{
    char *text = json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
    str line = {0};

    str_add(&line, "%s\n", text);
    int rc = write_text(dir, name, line.at, line.n, e);
    str_free(&line);
    free(text);
    return rc;
}

/* JSON is YAML; the folder and the base are the farm's to say. */
static int write_farm(const char *dir, const char *name, const json_t *settings, err *e)
{
    json_t *own = json_deep_copy(settings), *farm = json_object(), *list = json_array();
    const char *root = json_string_value(json_object_get(settings, "root"));
    str origin = {0};

    json_object_set(farm, "base", json_object_get(settings, "base"));
    json_object_set_new(farm, "farm", json_string(name));
    json_object_del(own, "base");
    json_object_del(own, "root");
    json_object_set_new(own, "name", json_string(name));
    json_array_append_new(list, own);
    json_object_set_new(farm, "concepts", list);
    int rc = write_json(dir, "farm.yaml", farm, e);
    str_add(&origin, "%s\n", root ? root : "");
    if (rc == 0)
        rc = write_text(dir, "origin", origin.at, origin.n, e);
    str_free(&origin);
    json_decref(farm);
    return rc;
}

int quarantine_farm(const char *dir, const char *name, const char *settings, err *e)
{
    json_t *o;

    TRY(json_parse(&o, settings, strlen(settings), "the settings", e));
    int rc = write_farm(dir, name, o, e);
    json_decref(o);
    return rc;
}

/* A picture that cannot be read may be the very reason: its error stands where the hash would. */
static void add_picture(json_t *list, const char *path)
{
    char hex[HASH_HEX];
    struct stat s;
    err e = {0};

    if (stat(path, &s) != 0 || !S_ISREG(s.st_mode))
        err_set(&e, ERR_IO, "%s: no regular file", path);
    else
        hash_file(path, hex, &e);
    json_array_append_new(list, e.code ? json_pack("{s:s, s:s}", "path", path, "error", e.text)
                                       : json_pack("{s:s, s:s}", "path", path, "sha256", hex));
}

static void add_pictures(json_t *list, const char *root, const char *given)
{
    char path[FS_PATH], one[FS_PATH], **names;
    size_t n;

    if (fs_join(path, root ? root : "", given, NULL) != 0)
        return;
    if (!fs_is_dir(path) || fs_list(&names, &n, path, NULL) != 0) {
        add_picture(list, path);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (fs_join(one, path, names[i], NULL) == 0 && !fs_is_dir(one))
            add_picture(list, one);
    fs_list_free(names);
}

/* Of one subject: `images` is a path or a list of them. */
static void add_images(json_t *list, const char *root, const json_t *subject)
{
    const json_t *images = json_object_get(subject, "images");

    if (json_is_string(images))
        add_pictures(list, root, json_string_value(images));
    for (size_t i = 0; i < json_array_size(images); i++)
        if (json_is_string(json_array_get(images, i)))
            add_pictures(list, root, json_string_value(json_array_get(images, i)));
}

static json_t *list_pictures(const json_t *settings)
{
    const char *root = json_string_value(json_object_get(settings, "root"));
    const json_t *subjects = json_object_get(settings, "subjects");
    json_t *list = json_array();

    add_images(list, root, settings);
    for (size_t i = 0; i < json_array_size(subjects); i++)
        add_images(list, root, json_array_get(subjects, i));
    return list;
}

static int write_failure(const quarantine_case *q, const char *dir, const json_t *settings, err *e)
{
    json_t *o = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:I, s:s, s:i, s:o}", "concept", q->name, "state", q->state, "attempt",
                          q->attempt, "blame", q->blame, "code", q->code ? q->code : "", "text", q->text ? q->text : "", "step",
                          (json_int_t)q->step, "node", q->node ? q->node : "", "slot", q->slot, "pictures",
                          list_pictures(settings));

    if (json_object_get(settings, "seed"))
        json_object_set(o, "seed", json_object_get(settings, "seed"));
    int rc = write_json(dir, "failure.json", o, e);
    json_decref(o);
    return rc;
}

/* A worker that said nothing, or a node whose folder is elsewhere, leaves an empty one. */
static int write_log(const quarantine_case *q, const char *dir, err *e)
{
    str path = {0};
    char *text = calloc(1, TAIL + 1);
    size_t n = 0, from;
    int lines = 0;

    str_add(&path, "%s/logs/%s-%d.log", q->farm, q->node ? q->node : "", q->slot);
    FILE *f = text && q->node ? fopen(path.at, "re") : NULL;
    if (f) {
        if (fseek(f, -TAIL, SEEK_END) != 0)
            rewind(f);
        n = fread(text, 1, TAIL, f);
        fclose(f);
    }
    for (from = n; from > 0 && (lines < LINES || text[from - 1] != '\n'); from--)
        lines += text[from - 1] == '\n' && from < n;
    int rc = write_text(dir, "log.txt", text ? text + from : "", n - from, e);
    free(text);
    str_free(&path);
    return rc;
}

static int fill(const quarantine_case *q, const char *dir, err *e)
{
    json_t *settings;

    TRY(json_parse(&settings, q->settings, strlen(q->settings), "the settings", e));
    int rc = fs_mkdirs(dir, e);
    if (rc == 0)
        rc = write_farm(dir, q->name, settings, e);
    if (rc == 0)
        rc = write_failure(q, dir, settings, e);
    if (rc == 0)
        rc = write_log(q, dir, e);
    json_decref(settings);
    return rc;
}

/* In place of what an earlier failure left. */
static int put(const char *aside, const char *path, err *e)
{
    if (fs_is_dir(path))
        TRY(fs_remove_tree(path, e));
    return rename(aside, path) == 0 ? 0 : err_set(e, ERR_IO, "%s cannot be given its name", aside);
}

int quarantine_keep(const quarantine_case *q, err *e)
{
    char dir[FS_PATH], path[FS_PATH], aside[FS_PATH];
    str name = {0};

    str_add(&name, ".%s-%ld", q->name, (long)getpid());
    int rc = fs_join(dir, q->farm, "quarantine", e);
    if (rc == 0)
        rc = fs_join(path, dir, q->name, e);
    if (rc == 0)
        rc = fs_join(aside, dir, name.at, e);
    str_free(&name);
    if (rc != 0)
        return rc;
    rc = fill(q, aside, e);
    if (rc == 0)
        rc = put(aside, path, e);
    if (rc == 0)
        return fs_sync_dir(dir, e);
    fs_remove_tree(aside, NULL);
    return rc;
}
