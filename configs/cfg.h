#ifndef CFG_H
#define CFG_H
/* A setting is told once, in a row beside the struct it fills. Reading the file, overriding by a flag, checking the
 * range, printing --help, and telling where a value came from are all read from that row. This module knows no
 * setting of its own.
 *
 *     typedef struct { int64_t steps; double lr; const char *images; int compat; } train_cfg;
 *     const cfg_field train_fields[] = {
 *         {"steps", CFG_INT, CFG_AT(train_cfg, steps), "250", 1, 1e6, .unit = "steps", .help = "steps of training"},
 *         {"lr", CFG_REAL, CFG_AT(train_cfg, lr), "auto", 0, 1, .names = (const char *const[]){"auto", NULL},
 *          .help = "learning rate; auto: the recipe's"},
 *         {"images", CFG_TEXT, CFG_AT(train_cfg, images), NULL, 1, 4095, .help = "folder with the subject's pictures"},
 *         {"compat", CFG_CHOICE, CFG_AT(train_cfg, compat), "paper", .help = "whose details to follow",
 *          .names = (const char *const[]){"paper", "diffusers", NULL}},
 *         CFG_END};
 */
#include <stdint.h>

#include "configs/cfg_node.h"

typedef enum {      /* the member's C type              in a file */
    CFG_BOOL,       /* bool                             true, false, yes, no, on, off */
    CFG_INT,        /* int64_t or int                   250 */
    CFG_REAL,       /* double or float                  8.0e-5 */
    CFG_TEXT,       /* const char *, never NULL         anything of one line or more */
    CFG_CHOICE,     /* int, the index in names          one of names; for yes and no all words of CFG_BOOL */
    CFG_BYTES,      /* int64_t                          8GiB, 500MB, 4096 */
    CFG_SECONDS,    /* double                           90s, 5m, 1h30m, 250ms, 30 */
    CFG_PERCENT,    /* double, 0.9 for 90%              90% */
    CFG_TEXTS,      /* cfg_texts                        a list of texts, or one */
    CFG_TABLE,      /* cfg_table                        a list of maps, or one, each read by `rows` */
    CFG_TREE        /* const cfg_node *, may be NULL    anything: somebody else has the rows */
} cfg_type;

typedef struct { const char *const *at; size_t n; } cfg_texts;
typedef struct { void *at; size_t n; } cfg_table; /* n structs of the row's `each` bytes */

typedef struct cfg_field cfg_field;
struct cfg_field {
    const char *key;             /* "regularisation.images": its place in the file, and its flag */
    cfg_type type;
    size_t at, size;             /* CFG_AT(struct, member) */
    const char *fallback;        /* as one would write it in a file; NULL: must be given; "": empty (texts, lists) */
    double least, most;          /* both 0: any. Of a text: its bytes; of a list: its entries; a percentage: 0..1 */
    const char *help;            /* one sentence */
    const char *unit;            /* "steps", "pixels"; may be NULL */
    const char *const *names;    /* a choice's values, or what a list's texts must be among; or words that may stand for
                                  * a number, where word i is stored as -1-i */
    const cfg_field *rows;       /* of a table's maps */
    size_t each;                 /* sizeof of the struct they fill */
};
#define CFG_AT(type, member) offsetof(type, member), sizeof(((type *)0)->member)
#define CFG_END {.key = NULL}
enum { CFG_WORD = -1 };          /* what the first word beside a number is stored as: "auto" in most rows */

/* Rows and the struct they fill. One map of a file may be read by the rows of several: data, training, method. */
typedef struct {
    const char *name;            /* heads --help, and may stand before a flag's key: --train.lr */
    const cfg_field *rows;
    void *into;
} cfg_section;

/* What was filled and from where; it lives in the document, and looks into the structs again when it tells. */
typedef struct cfg cfg;

/* Fills every section from `map` (NULL: from the fallbacks alone). A key that no section has is an error that names
 * the nearest one. Texts and lists in the structs live as long as `d`. out may be NULL. */
int cfg_fill(const cfg **out, cfg_doc *d, const cfg_section *sections, size_t n, const cfg_node *map, err *e);
/* For maps that share most of their branches, as the rows of a table do: the sections hold what cfg_fill made of `like`,
 * and only what `map` has otherwise is read. false: they differ in their keys, or a value is refused; cfg_fill tells. */
bool cfg_refill(cfg_doc *d, const cfg_section *sections, size_t n, const cfg_node *map, const cfg_node *like);

/* Takes --key value and --key=value of the sections' rows out of argv (a bool may stand alone) and makes a map of
 * them, to be joined over the file's: cfg_join(d, file, flags). What is not theirs stays; "--" ends the flags. */
int cfg_args(cfg_node **flags, cfg_doc *d, const cfg_section *sections, size_t n, int *argc, char **argv, err *e);
/* After the last cfg_args: an error for what still looks like a flag, with the nearest one. */
int cfg_args_done(const cfg_section *sections, size_t n, int argc, char **argv, err *e);

void cfg_help(FILE *to, const cfg_section *sections, size_t n);
void cfg_show(FILE *to, const cfg *c);           /* each value and where it came from */
char *cfg_values(const cfg *c);                  /* all values, fallbacks included, as cfg_json writes; free() it */
#endif
