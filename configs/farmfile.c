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
     .help = "what trains; auto: what this build has"},
    {"limits.workers", CFG_INT, CFG_AT(farmfile, limits.workers), "auto", 1, 1e5, "workers on each node; auto: one "
     "per two cores and 8 GiB, or as many as the launcher has ranks there", .unit = "workers", WORDS("auto")},
    {"limits.threads", CFG_INT, CFG_AT(farmfile, limits.threads), "auto", 1, 4096,
     "threads of a worker; auto: the cores shared out", .unit = "threads", WORDS("auto")},
    {"limits.pack_max", CFG_INT, CFG_AT(farmfile, limits.pack_max), "auto", 1, 64,
     "concepts that train together in one worker at most", .unit = "concepts", WORDS("auto")},
    {"limits.gang_max", CFG_INT, CFG_AT(farmfile, limits.gang_max), "8", 1, 64,
     "workers that train one concept together at most", .unit = "workers"},
    {"limits.memory", CFG_PERCENT, CFG_AT(farmfile, limits.memory), "90%", 0.01, 1,
     .help = "part of a GPU's, or the machine's, memory that may be used"},
    {"limits.retries", CFG_INT, CFG_AT(farmfile, limits.retries), "3", 0, 1000,
     "times a concept is tried again before it is set aside", .unit = "times"},
    {"limits.time_limit", CFG_SECONDS, CFG_AT(farmfile, limits.time_limit), "from-launcher", 1, 1e9,
     "when to stop and leave the rest for a later start", WORDS("from-launcher", "none")},
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

static int fill_farm(farmfile *f, const cfg_node *map, err *e)
{
    TRY(cfg_fill(&f->values, f->doc, &(cfg_section){"farm", farm_fields, f}, 1, map, e));
    const cfg_node *name = cfg_get(map, "farm");
    TRY(farm_check_name(f->name, name->at, e));
    if (f->defaults && f->defaults->kind != CFG_MAP)
        return cfg_fail(e, f->defaults->at, "'defaults' is not a map");
    if (cfg_get(f->defaults, "name"))
        return cfg_fail(e, cfg_get(f->defaults, "name")->at, "'name' among the defaults: each concept has its own");
    if (!*f->dir)
        f->dir = f->name;
    TRY(make_absolute(&f->dir, f, cfg_get(map, "dir"), e));
    return make_absolute(&f->base, f, cfg_get(map, "base"), e);
}

int farm_read(farmfile **out, cfg_doc *d, const char *path, const cfg_node *flags, err *e)
{
    const cfg_node *map;
    farmfile *f = cfg_room(d, sizeof *f);
    *out = NULL;
    f->doc = d;
    f->path = cfg_text(d, path);
    TRY(cfg_yaml_read(&map, d, path, e));
    if (map->kind != CFG_MAP)
        return cfg_fail(e, map->at, "a farm file is a map: farm:, base:, concepts:");
    TRY(folder_of(&f->root, d, path, e));
    TRY(fill_farm(f, cfg_join(d, map, flags), e));
    TRY(farm_concepts(&f->concepts, &f->concept_count, f, f->concept_list, e));
    TRY(farm_merges(f, e));
    TRY(farm_check_concepts(f, e));
    TRY(farm_check_merges(f, e));
    *out = f;
    return 0;
}

static int read_piece(const cfg_node **list, farmfile *f, const char *path, err *e)
{
    if (str_ends(path, ".tsv"))
        return farm_table(list, f->doc, path, e);
    const cfg_node *map;
    TRY(cfg_yaml_read(&map, f->doc, path, e));
    static const cfg_field rows[] = {{"concepts", CFG_TREE, 0, sizeof(cfg_node *), NULL, .help = "a list"}, CFG_END};
    return cfg_fill(NULL, f->doc, &(cfg_section){"", rows, list}, 1, map, e);
}

int farm_more(farm_concept **out, size_t *n, farmfile *f, const char *path, err *e)
{
    const cfg_node *list;
    TRY(read_piece(&list, f, path, e));
    TRY(farm_concepts(out, n, f, list, e));
    /* Old and new together must be a farm: the same laws as if all had stood in one file. */
    farmfile both = *f;
    both.concept_count = f->concept_count + *n;
    both.concepts = cfg_room(f->doc, both.concept_count * sizeof *both.concepts);
    if (f->concept_count > 0)
        memcpy(both.concepts, f->concepts, f->concept_count * sizeof *both.concepts);
    if (*n > 0)
        memcpy(both.concepts + f->concept_count, *out, *n * sizeof *both.concepts);
    TRY(farm_check_concepts(&both, e));
    return farm_check_merges(&both, e);
}
