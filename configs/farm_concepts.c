/* From the lists of a farm file to its concepts and merges: defaults below, own keys above, the farm's own keys out. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "configs/farm_impl.h"

static const char *const PRIORITIES[] = {"urgent", "normal", "background", NULL};

/* What the farm must know of a concept; every other key belongs to whoever trains it. */
static const cfg_field concept_fields[] = {
    {"name", CFG_TEXT, CFG_AT(farm_concept, name), NULL, .help = "the concept's name, and its file's"},
    {"priority", CFG_CHOICE, CFG_AT(farm_concept, priority), "normal", .names = PRIORITIES,
     .help = "urgent concepts go first and are never packed; background ones go last"},
    {"owner", CFG_TEXT, CFG_AT(farm_concept, owner), "", 0, 64, .help = "whose concept it is, for fair shares"},
    {"hold", CFG_BOOL, CFG_AT(farm_concept, hold), "false", .help = "not to be started before it is released"},
    {"depends", CFG_TEXTS, CFG_AT(farm_concept, depends), "", .help = "concepts that must be done first"},
    CFG_END,
};

static const cfg_field merge_fields[] = {
    {"name", CFG_TEXT, CFG_AT(farm_merge, name), NULL, .help = "the merged model's name, and its file's"},
    {"of", CFG_TEXTS, CFG_AT(farm_merge, of), NULL, 2, 10000, .help = "concepts by name, or paths of concept files"},
    CFG_END,
};

static bool has_row(const cfg_field *rows, const char *key)
{
    for (; rows->key; rows++) {
        if (strcmp(rows->key, key) == 0)
            return true;
    }
    return false;
}

/* The keys that `rows` know into the struct; a map of the others. */
static int take_rows(cfg_doc *d, const cfg_field *rows, void *into, const cfg_node *map, cfg_node **rest, err *e)
{
    cfg_node *known = cfg_node_new(d, CFG_MAP, map->at);
    *rest = cfg_node_new(d, CFG_MAP, map->at);
    for (size_t i = 0; i < map->n; i++) {
        const cfg_entry *o = &map->entries[i];
        cfg_set(d, has_row(rows, o->key) ? known : *rest, o->key, o->at, o->value);
    }
    return cfg_fill(NULL, d, &(cfg_section){"", rows, into}, 1, known, e);
}

static int set_own(farmfile *f, cfg_node *settings, const char *key, const char *value, err *e)
{
    const cfg_node *there = cfg_get(settings, key);
    if (there)
        return cfg_fail(e, there->at, "'%s' is the farm's; a concept or the defaults cannot have their own", key);
    cfg_mark at = {.file = f->path};
    cfg_set(f->doc, settings, key, at, cfg_scalar(f->doc, value, false, at));
    return 0;
}

static int resolve(farm_concept *c, farmfile *f, const cfg_node *under, const cfg_node *own, err *e)
{
    cfg_node *settings;
    TRY(take_rows(f->doc, concept_fields, c, cfg_join(f->doc, under, own), &settings, e));
    c->at = own->at;
    TRY(farm_check_name(c->name, cfg_get(own, "name") ? cfg_get(own, "name")->at : own->at, e));
    TRY(set_own(f, settings, "root", f->root, e));
    TRY(set_own(f, settings, "base", f->base, e));
    c->settings = settings;
    return 0;
}

typedef struct {
    farm_concept *at;
    size_t n, room;
} concepts;

static int add(concepts *to, farmfile *f, const cfg_node *under, const cfg_node *own, err *e)
{
    if (to->n == to->room) {
        to->room = to->room ? 2 * to->room : 16;
        to->at = mem_grow(to->at, to->room, sizeof *to->at);
    }
    to->at[to->n] = (farm_concept){0};
    return resolve(&to->at[to->n++], f, under, own, e);
}

/* {from: concepts.tsv, steps: 300}: the entry's other keys lie between the defaults and the rows. */
static int add_table(concepts *to, farmfile *f, const cfg_node *entry, err *e)
{
    char path[FS_PATH];
    const cfg_node *from = cfg_get(entry, "from"), *rows;
    if (from->kind != CFG_SCALAR)
        return cfg_fail(e, from->at, "'from' is not the path of a table");
    TRY(fs_join(path, f->root, from->text, e));
    if (farm_table(&rows, f->doc, path, e) != 0) {
        char where[CFG_WHERE];
        return err_wrap(e, "%s", cfg_where(where, from->at));
    }
    cfg_node *rest = cfg_node_new(f->doc, CFG_MAP, entry->at);
    for (size_t i = 0; i < entry->n; i++) {
        if (strcmp(entry->entries[i].key, "from") != 0)
            cfg_set(f->doc, rest, entry->entries[i].key, entry->entries[i].at, entry->entries[i].value);
    }
    const cfg_node *under = cfg_join(f->doc, f->defaults, rest);
    for (size_t i = 0; i < rows->n; i++)
        TRY(add(to, f, under, rows->entries[i].value, e));
    return 0;
}

static int add_all(concepts *to, farmfile *f, const cfg_node *list, err *e)
{
    for (size_t i = 0; i < list->n; i++) {
        const cfg_node *entry = list->entries[i].value;
        if (entry->kind != CFG_MAP)
            return cfg_fail(e, entry->at, "a concept is a map, such as {name: rex, class: dog, images: data/rex}");
        TRY(cfg_get(entry, "from") ? add_table(to, f, entry, e) : add(to, f, f->defaults, entry, e));
    }
    return 0;
}

int farm_concepts(farm_concept **out, size_t *n, farmfile *f, const cfg_node *list, err *e)
{
    concepts all = {0};
    *out = NULL;
    *n = 0;
    if (list->kind != CFG_LIST)
        return cfg_fail(e, list->at, "'concepts' is not a list");
    int rc = add_all(&all, f, list, e);
    if (rc == 0 && all.n > 0) {
        *out = cfg_room(f->doc, all.n * sizeof **out);
        memcpy(*out, all.at, all.n * sizeof **out);
        *n = all.n;
    }
    free(all.at);
    return rc;
}

int farm_merges(farmfile *f, err *e)
{
    const cfg_node *list = f->merge_list;
    if (!list)
        return 0;
    if (list->kind != CFG_LIST)
        return cfg_fail(e, list->at, "'merge' is not a list; write: - {name: rex+tabby, of: [rex, tabby]}");
    f->merges = cfg_room(f->doc, list->n * sizeof *f->merges);
    for (size_t i = 0; i < list->n; i++) {
        const cfg_node *entry = list->entries[i].value;
        farm_merge *m = &f->merges[f->merge_count++];
        cfg_node *settings;
        if (entry->kind != CFG_MAP)
            return cfg_fail(e, entry->at, "a merge is a map, such as {name: rex+tabby, of: [rex, tabby]}");
        TRY(take_rows(f->doc, merge_fields, m, entry, &settings, e));
        m->at = entry->at;
        m->settings = settings;
        TRY(farm_check_name(m->name, entry->at, e));
    }
    return 0;
}

void farm_concept_json(const farm_concept *c, char **text, char hex[HASH_HEX])
{
    *text = cfg_json(c->settings);
    hash_bytes(*text, strlen(*text), hex);
}
