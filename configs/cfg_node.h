#ifndef CFG_NODE_H
#define CFG_NODE_H
/* Settings as a tree: texts, lists and maps, each with the place it was written at. A cfg_doc owns everything made
 * with it; nodes never change once a reader has handed them out, so trees may share branches and a tree may mix
 * several files. Nothing here knows what a key means: rows (cfg.h) do. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cluster/base/err.h"

typedef struct cfg_doc cfg_doc;
cfg_doc *cfg_doc_new(void);
void cfg_doc_free(cfg_doc *d);
void *cfg_room(cfg_doc *d, size_t bytes);       /* zeroed, aligned for anything, lives as long as the document */
char *cfg_text(cfg_doc *d, const char *s);      /* a copy that lives as long as the document */

/* Where something stands. line and column count from 1; line 0: `file` is not a file but a flag ("--lr") or a name. */
typedef struct {
    const char *file;
    int line, column;
} cfg_mark;
enum { CFG_WHERE = 320 };
const char *cfg_where(char out[CFG_WHERE], cfg_mark at); /* "farm.yaml:12:5"; returns out */
/* ERR_INPUT with "farm.yaml:12:5: " in front. */
int cfg_fail(err *e, cfg_mark at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

typedef enum { CFG_NULL, CFG_SCALAR, CFG_LIST, CFG_MAP } cfg_kind;
typedef struct cfg_node cfg_node;
typedef struct {
    const char *key;            /* NULL in a list */
    cfg_mark at;                /* of the key */
    const cfg_node *value;
} cfg_entry;
struct cfg_node {
    cfg_kind kind;
    bool plain;                 /* a scalar written without quotes: 5, true, rex */
    cfg_mark at;
    const char *text;           /* of a scalar; "" otherwise */
    const cfg_entry *entries;   /* [n], in the file's order */
    size_t n;
    size_t weight, height;      /* nodes, and levels, from here down; shared nodes counted each time */
};

const cfg_node *cfg_get(const cfg_node *map, const char *key); /* NULL: no such key, or no map */

/* Making nodes. A map being built belongs to its builder; cfg_put may still be called on it. */
cfg_node *cfg_node_new(cfg_doc *d, cfg_kind kind, cfg_mark at);
cfg_node *cfg_scalar(cfg_doc *d, const char *text, bool plain, cfg_mark at);
/* map[key] = value, a second value taking the first one's place. key is kept, not copied. */
void cfg_set(cfg_doc *d, cfg_node *map, const char *key, cfg_mark at, const cfg_node *value);
/* The same along a dotted path, making the maps on its way: "regularisation.images". */
void cfg_put(cfg_doc *d, cfg_node *map, const char *path, cfg_mark at, const cfg_node *value);
void cfg_push(cfg_doc *d, cfg_node *list, const cfg_node *value);

/* `over` on `under`: maps are joined key by key, anything else of `over` replaces. A null in `over` takes the key
 * away. Either may be NULL. */
const cfg_node *cfg_join(cfg_doc *d, const cfg_node *under, const cfg_node *over);

/* One line of JSON: keys sorted by bytes, nulls of maps left out, no blanks. Unquoted JSON numbers, true and false
 * stay as they were written; every other scalar is a string. Equal trees give equal bytes; read again, it means the
 * same to every row. free() it. */
char *cfg_json(const cfg_node *n);
#endif
