/* The tree and its memory: blocks that are only ever added to, all freed with the document. */
#include "configs/cfg_node.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

enum { BLOCK = 16 << 10 };

struct block {
    struct block *before;
    max_align_t bytes[];
};

struct cfg_doc {
    struct block *last;
    size_t used, room; /* bytes of last */
};

cfg_doc *cfg_doc_new(void)
{
    return NEW(cfg_doc);
}

void cfg_doc_free(cfg_doc *d)
{
    if (!d)
        return;
    for (struct block *b = d->last, *before; b; b = before) {
        before = b->before;
        free(b);
    }
    free(d);
}

void *cfg_room(cfg_doc *d, size_t bytes)
{
    bytes = (bytes + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
    if (bytes > d->room - d->used) {
        size_t room = bytes > BLOCK ? bytes : BLOCK;
        struct block *b = mem_new(1, sizeof *b + room);
        b->before = d->last;
        d->last = b;
        d->room = room;
        d->used = 0;
    }
    void *p = (char *)d->last->bytes + d->used;
    d->used += bytes;
    return p;
}

char *cfg_text(cfg_doc *d, const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(cfg_room(d, n), s, n);
}

const char *cfg_where(char out[CFG_WHERE], cfg_mark at)
{
    const char *file = at.file ? at.file : "settings";
    if (at.line > 0)
        snprintf(out, CFG_WHERE, "%.280s:%d:%d", file, at.line, at.column);
    else
        snprintf(out, CFG_WHERE, "%.280s", file);
    return out;
}

int cfg_fail(err *e, cfg_mark at, const char *fmt, ...)
{
    char text[sizeof e->text], where[CFG_WHERE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_set(e, ERR_INPUT, "%s: %s", cfg_where(where, at), text);
}

const cfg_node *cfg_get(const cfg_node *map, const char *key)
{
    if (!map || map->kind != CFG_MAP)
        return NULL;
    for (size_t i = 0; i < map->n; i++) {
        if (strcmp(map->entries[i].key, key) == 0)
            return map->entries[i].value;
    }
    return NULL;
}

cfg_node *cfg_node_new(cfg_doc *d, cfg_kind kind, cfg_mark at)
{
    cfg_node *n = cfg_room(d, sizeof *n);
    *n = (cfg_node){.kind = kind, .at = at, .text = "", .weight = 1, .height = 1};
    return n;
}

cfg_node *cfg_scalar(cfg_doc *d, const char *text, bool plain, cfg_mark at)
{
    cfg_node *n = cfg_node_new(d, CFG_SCALAR, at);
    n->text = cfg_text(d, text);
    n->plain = plain;
    return n;
}

/* Room for entries doubles at every power of two; the old ones are left to the document. */
static cfg_entry *append(cfg_doc *d, cfg_node *to)
{
    if ((to->n & (to->n - 1)) == 0) {
        cfg_entry *more = cfg_room(d, (to->n ? 2 * to->n : 1) * sizeof *more);
        if (to->n > 0)
            memcpy(more, to->entries, to->n * sizeof *more);
        to->entries = more;
    }
    return (cfg_entry *)&to->entries[to->n++]; /* const for readers; the builder made it just now */
}

static void weigh(cfg_node *parent, const cfg_node *child)
{
    parent->weight += child->weight;
    if (parent->height <= child->height)
        parent->height = child->height + 1;
}

void cfg_push(cfg_doc *d, cfg_node *list, const cfg_node *value)
{
    *append(d, list) = (cfg_entry){.at = value->at, .value = value};
    weigh(list, value);
}

void cfg_set(cfg_doc *d, cfg_node *map, const char *key, cfg_mark at, const cfg_node *value)
{
    cfg_entry *to = NULL;
    for (size_t i = 0; i < map->n && !to; i++) {
        if (strcmp(map->entries[i].key, key) == 0)
            to = (cfg_entry *)&map->entries[i];
    }
    if (to)
        map->weight -= to->value->weight;
    else
        to = append(d, map);
    *to = (cfg_entry){.key = key, .at = at, .value = value};
    weigh(map, value);
}

void cfg_put(cfg_doc *d, cfg_node *map, const char *path, cfg_mark at, const cfg_node *value)
{
    const char *dot = strchr(path, '.');
    if (!dot) {
        cfg_set(d, map, cfg_text(d, path), at, value);
        return;
    }
    char *head = cfg_text(d, path);
    head[dot - path] = 0;
    const cfg_node *old = cfg_get(map, head);
    cfg_node *inner = cfg_node_new(d, CFG_MAP, at);
    for (size_t i = 0; old && i < old->n; i++)
        cfg_set(d, inner, old->entries[i].key, old->entries[i].at, old->entries[i].value);
    cfg_put(d, inner, dot + 1, at, value);
    cfg_set(d, map, head, at, inner);
}

const cfg_node *cfg_join(cfg_doc *d, const cfg_node *under, const cfg_node *over)
{
    if (!under || !over)
        return over ? over : under;
    if (under->kind != CFG_MAP || over->kind != CFG_MAP)
        return over;
    cfg_node *both = cfg_node_new(d, CFG_MAP, over->at);
    for (size_t i = 0; i < under->n; i++)
        cfg_set(d, both, under->entries[i].key, under->entries[i].at, under->entries[i].value);
    for (size_t i = 0; i < over->n; i++) {
        const cfg_entry *o = &over->entries[i];
        cfg_set(d, both, o->key, o->at, cfg_join(d, cfg_get(both, o->key), o->value));
    }
    return both;
}
