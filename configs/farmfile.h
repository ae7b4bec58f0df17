#ifndef FARMFILE_H
#define FARMFILE_H
/* The farm file: what concepts there are, and what the farm itself must know of them. A concept's other settings stay
 * a tree: their rows belong to data, training and the method, which this module does not know.
 *
 * Settings of a concept = defaults, over it the entry's own keys (maps join, null takes away), over it a table's row.
 * Relative paths in them are relative to `root`: the folder of the farm file, or, for the copy that an accepted farm
 * keeps in its own folder, what the file `origin` beside it says. */
#include "cluster/base/hash.h"
#include "configs/cfg.h"

typedef enum { FARM_URGENT, FARM_NORMAL, FARM_BACKGROUND } farm_priority;

typedef struct {
    const char *name;            /* safe as a file name: 1 to 64 of [A-Za-z0-9._+-], not beginning with . or - */
    int priority;                /* a farm_priority */
    const char *owner;           /* whose it is, for fair shares; "" */
    bool hold;                   /* not before it is released */
    cfg_texts depends;           /* concepts that must be done first */
    cfg_mark at;
    const cfg_node *settings;    /* a map: `root`, `base`, and all keys that are not the farm's own */
} farm_concept;

typedef struct {
    const char *name;
    cfg_texts of;                /* names of concepts, or paths of concept files (with a '/' or ending in .h5) */
    cfg_mark at;
    const cfg_node *settings;    /* the keys besides: the merge program's */
} farm_merge;

typedef struct {
    int64_t workers, pack_max;   /* CFG_WORD: auto */
    int64_t threads;             /* of one CPU worker; CFG_WORD: cores / workers */
    int64_t gang_max, gang_nodes, retries;
    double checkpoint;           /* seconds between two on the disk; CFG_WORD: none of a healthy training */
    double memory;               /* part of a device's or node's memory that may be used */
    double time_limit;           /* seconds; CFG_WORD: what the launcher allows; CFG_WORD - 1: none */
} farm_limits;

typedef struct {
    cfg_texts on;                /* "done", "quarantine", "merged", "end" */
    const char *exec;            /* a command; "" for none */
} farm_notify;

/* Whose the farm is, in parts: who has twice the weight gets twice as much while others wait. */
typedef struct { const char *owner; double weight; } farm_share;

typedef struct {
    const char *name;
    const char *path;            /* of the file, as given */
    const char *root, *dir;      /* absolute: the file's folder; the farm's folder */
    const char *base;            /* absolute: a diffusers folder or one .safetensors */
    int backend;                 /* a farm_backend */
    farm_limits limits;
    bool serve;                  /* stay when all is done, for what is added */
    farm_share *shares;          /* of owners; others weigh 1 */
    size_t share_count;
    farm_notify notify;
    bool piece;                  /* what it depends on and merges may be elsewhere */
    const cfg_node *defaults, *concept_list, *merge_list, *share_map; /* as they stand in the file */
    farm_concept *concepts;
    size_t concept_count;
    farm_merge *merges;
    size_t merge_count;
    cfg_doc *doc;                /* where all of it lives, this struct too */
    const cfg *values;           /* of the farm's own rows: cfg_show(to, farm->values) */
    const farm_concept **by_name; /* sorted */
} farmfile;

typedef enum { FARM_BACKEND_AUTO, FARM_BACKEND_CPU, FARM_BACKEND_CUDA } farm_backend;

/* Rows of the farm itself, for --help and for flags of programs: cfg_args with `into` unused. */
extern const cfg_field farm_fields[];

/* flags: a map joined over the file's (its paths relative to the working folder), or NULL; it lives in `d`.
 * All of the farmfile lives in `d`, too, and goes with cfg_doc_free. */
int farm_read(farmfile **out, cfg_doc *d, const char *path, const cfg_node *flags, err *e);

/* Another piece under f's defaults: a table (.tsv), or YAML with nothing but `concepts:` and `merge:`. It is f with
 * these lists instead of its own, and lives in f->doc; f is as it was. Names may be f's, and what they depend on and
 * merge may be elsewhere: the caller knows what else there is. Relative paths in it are relative to f's root. */
int farm_piece(farmfile **out, farmfile *f, const char *path, err *e);

const farm_concept *farm_find(const farmfile *f, const char *name); /* NULL: none */
/* The settings as JSON (cfg_json; free() it) and their SHA-256, which tells whether a concept was changed. */
void farm_concept_json(const farm_concept *c, char **text, char hex[HASH_HEX]);
#endif
