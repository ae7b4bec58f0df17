/* The farm file's top: its own rows, and the folders everything else is relative to. */
#include "configs/farmfile.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "configs/farm_impl.h"

#define WORDS(...) .names = (const char *const[]){__VA_ARGS__, NULL}

const cfg_field farm_fields[] = {
    {"farm", CFG_TEXT, CFG_AT(farmfile, name), NULL, .help = "the farm's name, and its folder's beside this file"},
    {"dir", CFG_TEXT, CFG_AT(farmfile, dir), "", .help = "the farm's folder, where another is wanted"},
    {"base", CFG_TEXT, CFG_AT(farmfile, base), NULL, 1, 4095,
     .help = "the base model: a folder in the diffusers layout, or one .safetensors"},
    {"backend", CFG_CHOICE, CFG_AT(farmfile, backend), "auto", WORDS("auto", "cpu", "cuda"),
     .help = "what trains; cuda: a worker for each GPU, and workers in number share the GPUs out; auto: cpu"},
    {"limits.workers", CFG_INT, CFG_AT(farmfile, limits.workers), "auto", 1, 1e5, "workers on each node; auto: one "
     "per two cores and 8 GiB, or as many as the launcher has ranks there", .unit = "workers", WORDS("auto")},
    {"limits.threads", CFG_INT, CFG_AT(farmfile, limits.threads), "auto", 1, 4096,
     "threads of a worker; auto: the cores shared out", .unit = "threads", WORDS("auto")},
    {"limits.pack_max", CFG_INT, CFG_AT(farmfile, limits.pack_max), "auto", 1, 64,
     "concepts of one class that train together in one worker at most; auto: as many as cfarm bench --packs found to pay, "
     "else 1", .unit = "concepts", WORDS("auto")},
    {"limits.gang_max", CFG_INT, CFG_AT(farmfile, limits.gang_max), "8", 1, 64,
     "workers that train one concept together at most", .unit = "workers"},
    {"limits.gang_nodes", CFG_INT, CFG_AT(farmfile, limits.gang_nodes), "1", 1, 8,
     "machines that the workers of one concept may be spread over where no machine has room for them", .unit = "machines"},
    {"limits.memory", CFG_PERCENT, CFG_AT(farmfile, limits.memory), "90%", 0.01, 1,
     .help = "part of a GPU's, or the machine's, memory that may be used"},
    {"limits.retries", CFG_INT, CFG_AT(farmfile, limits.retries), "3", 1, 1000,
     "failures of its own until a concept is set aside", .unit = "times"},
    {"limits.checkpoint", CFG_SECONDS, CFG_AT(farmfile, limits.checkpoint), "5m", 1, 1e9,
     "how often a training's checkpoint is also written to the farm's folder: a lost machine costs no more", WORDS("never")},
    {"limits.time_limit", CFG_SECONDS, CFG_AT(farmfile, limits.time_limit), "from-launcher", 1, 1e9,
     "when to stop and leave the rest for a later start", WORDS("from-launcher", "none")},
    {"limits.shares", CFG_TREE, CFG_AT(farmfile, share_map), "",
     .help = "weights of owners, {ana: 2, bo: 1}: who has twice the weight gets twice as much while others wait"},
    {"serve", CFG_BOOL, CFG_AT(farmfile, serve), "false",
     .help = "stay when all is done, for what cfarm add brings, until told to end"},
    {"notify.on", CFG_TEXTS, CFG_AT(farmfile, notify.on), "[quarantine, end]", WORDS("done", "quarantine", "merged",
     "end"), .help = "what the command is run for"},
    {"notify.exec", CFG_TEXT, CFG_AT(farmfile, notify.exec), "", .help = "command to run, relative to this file"},
    {"defaults", CFG_TREE, CFG_AT(farmfile, defaults), "", .help = "settings every concept begins with"},
    {"concepts", CFG_TREE, CFG_AT(farmfile, concept_list), NULL, .help = "the concepts to train, a list"},
    {"merge", CFG_TREE, CFG_AT(farmfile, merge_list), "", .help = "what to merge once it is trained, a list"},
    CFG_END,
};

/* The absolute folder that holds `path`. */
static int folder_of(const char **out, cfg_doc *d, const char *path, err *e)
{
    char dir[FS_PATH], real[PATH_MAX];
    size_t n = (size_t)(fs_base(path) - path);
    if (!str_copy(dir, sizeof dir, n > 0 ? path : "."))
        return err_set(e, ERR_INPUT, "a path of %zu bytes is too long", strlen(path));
    if (n > 0)
        dir[n] = 0;
    if (!realpath(dir, real))
        return err_set(e, ERR_IO, "%s: %s", dir, fs_reason(errno));
    *out = cfg_text(d, real);
    return 0;
}

/* What the file says is relative to the file; what a flag says, to where the command was given. */
static int make_absolute(const char **path, const farmfile *f, const cfg_node *given, err *e)
{
    char whole[FS_PATH], here[FS_PATH];
    bool by_flag = given && given->at.line == 0;
    if (by_flag && !getcwd(here, sizeof here))
        return err_set(e, ERR_IO, "the folder this was started in: %s", fs_reason(errno));
    TRY(fs_join(whole, by_flag ? here : f->root, *path, e));
    *path = cfg_text(f->doc, whole);
    return 0;
}

static int read_share(farm_share *out, const cfg_entry *o, err *e)
{
    char *end;
    out->owner = o->key;
    out->weight = strtod(o->value->text, &end);
    if (o->value->kind != CFG_SCALAR || end == o->value->text || *end || !(out->weight >= 0.001 && out->weight <= 1e6))
        return cfg_fail(e, o->value->at, "the share of '%.60s' is no number from 0.001 to 1e6", o->key);
    return 0;
}

static int read_shares(farmfile *f, err *e)
{
    const cfg_node *map = f->share_map;
    if (!map)
        return 0;
    if (map->kind != CFG_MAP)
        return cfg_fail(e, map->at, "'limits.shares' is a map of owners to weights, such as {ana: 2, bo: 1}");
    f->shares = cfg_room(f->doc, (map->n + 1) * sizeof *f->shares);
    for (size_t i = 0; i < map->n; i++)
        TRY(read_share(&f->shares[f->share_count++], &map->entries[i], e));
    return 0;
}

static int fill_farm(farmfile *f, const cfg_node *map, err *e)
{
    TRY(cfg_fill(&f->values, f->doc, &(cfg_section){"farm", farm_fields, f}, 1, map, e));
    const cfg_node *name = cfg_get(map, "farm");
    TRY(farm_check_name(f->name, name->at, e));
    if (f->defaults && f->defaults->kind != CFG_MAP)
        return cfg_fail(e, f->defaults->at, "'defaults' is not a map");
    if (cfg_get(f->defaults, "name"))
        return cfg_fail(e, cfg_get(f->defaults, "name")->at, "'name' among the defaults: each concept has its own");
    TRY(read_shares(f, e));
    if (!*f->dir)
        f->dir = f->name;
    TRY(make_absolute(&f->dir, f, cfg_get(map, "dir"), e));
    return make_absolute(&f->base, f, cfg_get(map, "base"), e);
}

/* An accepted farm file stands in the farm's own folder, wherever that was moved to. */
static int read_origin(farmfile *f, const char **dir, err *e)
{
    char path[FS_PATH], *text;
    size_t n;
    TRY(fs_join(path, f->root, "origin", e));
    if (strcmp(fs_base(f->path), "farm.yaml") != 0 || !fs_exists(path))
        return 0;
    TRY(fs_read(path, &text, &n, FS_PATH, e));
    text[strcspn(text, "\n")] = 0;
    *dir = f->root;
    f->root = cfg_text(f->doc, text);
    free(text);
    return 0;
}

int farm_read(farmfile **out, cfg_doc *d, const char *path, const cfg_node *flags, err *e)
{
    const cfg_node *map;
    const char *accepted = NULL;
    farmfile *f = cfg_room(d, sizeof *f);
    *out = NULL;
    f->doc = d;
    f->path = cfg_text(d, path);
    TRY(cfg_yaml_read(&map, d, path, e));
    if (map->kind != CFG_MAP)
        return cfg_fail(e, map->at, "a farm file is a map: farm:, base:, concepts:");
    TRY(folder_of(&f->root, d, path, e));
    TRY(read_origin(f, &accepted, e));
    TRY(fill_farm(f, cfg_join(d, map, flags), e));
    if (accepted)
        f->dir = accepted;
    TRY(farm_concepts(&f->concepts, &f->concept_count, f, f->concept_list, e));
    TRY(farm_merges(f, e));
    TRY(farm_check_concepts(f, e));
    TRY(farm_check_merges(f, e));
    *out = f;
    return 0;
}

static int read_piece(farmfile *piece, const char *path, err *e)
{
    static const cfg_field rows[] = {
        {"concepts", CFG_TREE, CFG_AT(farmfile, concept_list), "", .help = "a list"},
        {"merge", CFG_TREE, CFG_AT(farmfile, merge_list), "", .help = "a list"},
        CFG_END,
    };
    const cfg_node *map;
    if (str_ends(path, ".tsv"))
        return farm_table(&piece->concept_list, piece->doc, path, e);
    TRY(cfg_yaml_read(&map, piece->doc, path, e));
    if (map->kind != CFG_MAP)
        return cfg_fail(e, map->at, "a piece of a farm is a map with concepts:, merge:, or both");
    return cfg_fill(NULL, piece->doc, &(cfg_section){"", rows, piece}, 1, map, e);
}

int farm_piece(farmfile **out, farmfile *f, const char *path, err *e)
{
    farmfile *piece = cfg_room(f->doc, sizeof *piece);
    *out = NULL;
    *piece = *f;
    piece->piece = true;
    piece->concepts = NULL;
    piece->merges = NULL;
    piece->concept_count = piece->merge_count = 0;
    piece->concept_list = piece->merge_list = NULL;
    TRY(read_piece(piece, path, e));
    if (piece->concept_list)
        TRY(farm_concepts(&piece->concepts, &piece->concept_count, piece, piece->concept_list, e));
    TRY(farm_merges(piece, e));
    TRY(farm_check_concepts(piece, e));
    TRY(farm_check_merges(piece, e));
    *out = piece;
    return 0;
}
