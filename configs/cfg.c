/* Rows and a tree of nodes into structs: what stands there is checked first, then every row finds its value. */
#include "configs/cfg.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "configs/cfg_impl.h"
#include "configs/cfg_yaml.h"

/* Several lists of rows that read one map. */
typedef struct {
    const cfg_field *const *rows;
    size_t n;
} row_set;

typedef struct {
    cfg *c;
    err *e;
} filler;

static const char *joined(cfg_doc *d, const char *prefix, const char *key)
{
    str s = {0};
    if (!*prefix)
        return key;
    str_add(&s, "%s%s", prefix, key);
    const char *path = cfg_text(d, s.at);
    str_free(&s);
    return path;
}

static const cfg_field *row_at(row_set set, const char *path)
{
    for (size_t i = 0; i < set.n; i++) {
        for (const cfg_field *f = set.rows[i]; f->key; f++) {
            if (strcmp(f->key, path) == 0)
                return f;
        }
    }
    return NULL;
}

/* The names one may write right below the group `prefix` ("" or "regularisation."); free the list and the names. */
static char **names_below(row_set set, const char *prefix, size_t *n)
{
    char **names = NEW(char *);
    size_t skip = strlen(prefix);
    *n = 0;
    for (size_t i = 0; i < set.n; i++) {
        for (const cfg_field *f = set.rows[i]; f->key; f++) {
            if (strncmp(f->key, prefix, skip) != 0)
                continue;
            char *name = strndup(f->key + skip, strcspn(f->key + skip, "."));
            if (*n > 0 && strcmp(names[*n - 1], name) == 0) { /* rows of a group stand together */
                free(name);
                continue;
            }
            names = mem_grow(names, *n + 2, sizeof *names);
            names[(*n)++] = name;
        }
    }
    names[*n] = NULL;
    return names;
}

static void free_names(char **names)
{
    for (char **p = names; *p; p++)
        free(*p);
    free(names);
}

static void list_names(str *out, char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        str_add(out, "%s%s", i ? ", " : "", names[i]);
}

static int refuse_unknown(filler *f, row_set set, const char *prefix, const cfg_entry *entry)
{
    enum { NAMED = 12 }; /* more names than this help nobody */
    size_t n;
    char **names = names_below(set, prefix, &n);
    const char *near = str_nearest(entry->key, (const char *const *)names);
    str s = {0};
    if (near)
        str_add(&s, "; did you mean '%s'?", near);
    else if (n > 0 && n <= NAMED) {
        str_add(&s, "; known are ");
        list_names(&s, names);
    }
    int rc = cfg_fail(f->e, entry->at, "unknown key '%.60s%.60s'%s", prefix, entry->key, s.at ? s.at : "");
    str_free(&s);
    free_names(names);
    return rc;
}

/* The value as an error shows it: one line, not too long. */
static const char *shown(char out[64], const cfg_node *v)
{
    if (v->kind != CFG_SCALAR)
        return v->kind == CFG_LIST ? "a list" : v->kind == CFG_MAP ? "a map" : "null";
    bool fits = strlen(v->text) <= 48;
    snprintf(out, 64, "'%.48s%s'", v->text, fits ? "" : "...");
    for (char *p = out; *p; p++)
        *p = (unsigned char)*p < ' ' ? ' ' : *p;
    return out;
}

static int refuse_group(filler *f, row_set set, const char *prefix, const cfg_entry *entry)
{
    char value[64];
    size_t n;
    char **names = names_below(set, prefix, &n);
    str s = {0};
    list_names(&s, names);
    int rc = cfg_fail(f->e, entry->value->at, "'%s' is %s, not a map of %s", entry->key, shown(value, entry->value),
                      s.at);
    str_free(&s);
    free_names(names);
    return rc;
}

static bool is_group(row_set set, const char *prefix)
{
    size_t n;
    char **names = names_below(set, prefix, &n);
    free_names(names);
    return n > 0;
}

/* Every key of the map is a row's, or a group of rows'. */
static int check_known(filler *f, row_set set, const cfg_node *map, const char *prefix)
{
    for (size_t i = 0; map && i < map->n; i++) {
        const cfg_entry *entry = &map->entries[i];
        const char *path = joined(f->c->doc, prefix, entry->key);
        const char *group = joined(f->c->doc, path, ".");
        const char *dot = strchr(entry->key, '.');
        const cfg_field *row = row_at(set, path);
        if (row && dot)
            return cfg_fail(f->e, entry->at, "'%s' is written '%.*s: {%s: ...}' in a file", entry->key,
                            (int)(dot - entry->key), entry->key, dot + 1);
        if (row)
            continue;
        if (dot || !is_group(set, group))
            return refuse_unknown(f, set, prefix, entry);
        if (entry->value->kind != CFG_MAP && entry->value->kind != CFG_NULL)
            return refuse_group(f, set, group, entry);
        TRY(check_known(f, set, entry->value, group));
    }
    return 0;
}

/* "regularisation.images" along maps; a null on the way is nothing. */
static const cfg_node *find(const cfg_node *map, const char *path)
{
    char head[128];
    const char *dot = strchr(path, '.');
    while (dot) {
        CHECK((size_t)(dot - path) < sizeof head);
        snprintf(head, sizeof head, "%.*s", (int)(dot - path), path);
        map = cfg_get(map, head);
        path = dot + 1;
        dot = strchr(path, '.');
    }
    const cfg_node *v = cfg_get(map, path);
    return v && v->kind != CFG_NULL ? v : NULL;
}

static const char *nearest(const char *word, const char *const *names)
{
    return names ? str_nearest(word, names) : NULL;
}

static int refuse_value(filler *f, const cfg_field *row, const char *path, const cfg_node *v)
{
    char value[64];
    str s = {0};
    cfg_allowed(row, &s);
    const char *near = row->type == CFG_CHOICE || row->type == CFG_TEXTS ? nearest(v->text, row->names) : NULL;
    if (near)
        str_add(&s, "; did you mean '%s'?", near);
    int rc = cfg_fail(f->e, v->at, "'%s' is %s, not %s", path, shown(value, v), s.at);
    str_free(&s);
    return rc;
}

static bool count_fits(const cfg_field *row, size_t n)
{
    return (row->least == 0 && row->most == 0) || ((double)n >= row->least && (double)n <= row->most);
}

static bool is_among(const char *const *names, const char *text)
{
    bool found = !names;
    for (size_t i = 0; names && names[i]; i++)
        found = found || strcmp(names[i], text) == 0;
    return found;
}

static int fill_texts(filler *f, const cfg_field *row, cfg_texts *into, const cfg_node *v, const char *path)
{
    CHECK(row->size == sizeof *into);
    bool list = v->kind == CFG_LIST;
    size_t n = list ? v->n : 1;
    if ((!list && v->kind != CFG_SCALAR) || !count_fits(row, n))
        return refuse_value(f, row, path, v);
    const char **texts = cfg_room(f->c->doc, (n + 1) * sizeof *texts);
    for (size_t i = 0; i < n; i++) {
        const cfg_node *one = list ? v->entries[i].value : v;
        if (one->kind != CFG_SCALAR || !is_among(row->names, one->text))
            return refuse_value(f, row, path, one);
        texts[i] = one->text;
    }
    *into = (cfg_texts){.at = texts, .n = n};
    return 0;
}

static int fill_rows(filler *f, const cfg_field *rows, void *base, const cfg_node *map, const char *prefix);

static int fill_table(filler *f, const cfg_field *row, cfg_table *into, const cfg_node *v, const char *path)
{
    CHECK(row->size == sizeof *into);
    bool list = v->kind == CFG_LIST;
    size_t n = list ? v->n : 1;
    if ((!list && v->kind != CFG_MAP) || !count_fits(row, n))
        return refuse_value(f, row, path, v);
    into->at = cfg_room(f->c->doc, n * row->each);
    into->n = n;
    for (size_t i = 0; i < n; i++) {
        const cfg_node *one = list ? v->entries[i].value : v;
        char index[32];
        snprintf(index, sizeof index, "[%zu].", i);
        if (one->kind != CFG_MAP)
            return refuse_value(f, row, path, one);
        TRY(check_known(f, (row_set){&row->rows, 1}, one, ""));
        TRY(fill_rows(f, row->rows, (char *)into->at + i * row->each, one, joined(f->c->doc, path, index)));
    }
    return 0;
}

static int fill_given(filler *f, const cfg_field *row, void *member, const cfg_node *v, const char *path)
{
    if (row->type == CFG_TEXTS)
        return fill_texts(f, row, member, v, path);
    if (row->type == CFG_TABLE)
        return fill_table(f, row, member, v, path);
    if (row->type == CFG_TREE) {
        memcpy(member, &v, sizeof v);
        return 0;
    }
    if (v->kind != CFG_SCALAR || !cfg_parse(row, v->text, member))
        return refuse_value(f, row, path, v);
    return 0;
}

/* A fallback that its own row refuses is our mistake, not the user's. */
static void fill_fallback(filler *f, const cfg_field *row, void *member, const char *path)
{
    bool empty = *row->fallback == 0;
    const cfg_node *v;
    memset(member, 0, row->size);
    if (empty && row->type == CFG_TEXT)
        memcpy(member, &row->fallback, sizeof row->fallback);
    if (empty && (row->type == CFG_TEXT || row->type >= CFG_TEXTS))
        return;
    CHECK(cfg_value(&v, f->c->doc, row->fallback, (cfg_mark){.file = path}, f->e) == 0);
    CHECK(fill_given(f, row, member, v, path) == 0);
}

static void remember(filler *f, const cfg_field *row, const void *member, const char *path, const cfg_node *v)
{
    cfg_origin *o = cfg_room(f->c->doc, sizeof *o);
    *o = (cfg_origin){.row = row, .member = member, .path = path, .given = v != NULL};
    if (v)
        o->at = v->at;
    *f->c->end = o;
    f->c->end = &o->next;
}

static int fill_rows(filler *f, const cfg_field *rows, void *base, const cfg_node *map, const char *prefix)
{
    for (const cfg_field *row = rows; row->key; row++) {
        const cfg_node *v = find(map, row->key);
        const char *path = joined(f->c->doc, prefix, row->key);
        void *member = (char *)base + row->at;
        if (!v && !row->fallback)
            return cfg_fail(f->e, map ? map->at : (cfg_mark){0}, "'%s' is missing: %s", path, row->help);
        remember(f, row, member, path, v);
        if (v)
            TRY(fill_given(f, row, member, v, path));
        else
            fill_fallback(f, row, member, path);
    }
    return 0;
}

int cfg_fill(const cfg **out, cfg_doc *d, const cfg_section *sections, size_t n, const cfg_node *map, err *e)
{
    if (out)
        *out = NULL;
    if (map && map->kind != CFG_MAP && map->kind != CFG_NULL)
        return cfg_fail(e, map->at, "settings are a map, key: value");
    cfg_section *kept = cfg_room(d, n * sizeof *kept);
    const cfg_field **rows = cfg_room(d, n * sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        kept[i] = sections[i];
        rows[i] = sections[i].rows;
    }
    cfg *c = cfg_room(d, sizeof *c);
    *c = (cfg){.doc = d, .sections = kept, .n = n, .end = &c->first};
    filler f = {.c = c, .e = e};
    TRY(check_known(&f, (row_set){rows, n}, map, ""));
    for (size_t i = 0; i < n; i++)
        TRY(fill_rows(&f, sections[i].rows, sections[i].into, map, ""));
    if (out)
        *out = c;
    return 0;
}

/* A group, a table, or nothing where something was: cfg_fill's to read. */
static bool refill_one(filler *f, const cfg_section *sections, size_t n, const cfg_entry *o)
{
    bool found = false, good = o->value->kind != CFG_NULL;

    for (size_t i = 0; i < n && good; i++) {
        const cfg_field *row = row_at((row_set){&sections[i].rows, 1}, o->key);
        if (!row)
            continue;
        found = true;
        good = row->type != CFG_TABLE && fill_given(f, row, (char *)sections[i].into + row->at, o->value, o->key) == 0;
    }
    return found && good;
}

bool cfg_refill(cfg_doc *d, const cfg_section *sections, size_t n, const cfg_node *map, const cfg_node *like)
{
    cfg c = {.doc = d};
    filler f = {.c = &c};

    if (map->kind != CFG_MAP || like->kind != CFG_MAP || map->n != like->n)
        return false;
    for (size_t i = 0; i < map->n; i++) {
        const cfg_entry *is = &map->entries[i], *was = &like->entries[i];
        if (is->key != was->key && strcmp(is->key, was->key) != 0)
            return false;
        if (is->value != was->value && !refill_one(&f, sections, n, is))
            return false;
    }
    return true;
}
