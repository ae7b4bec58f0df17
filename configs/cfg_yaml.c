/* libyaml's events into nodes, by recursive descent with a bound on depth, size and what aliases multiply to. */
#include "configs/cfg_yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"

typedef struct {
    const char *name;
    const cfg_node *node;       /* NULL while the node is still being read */
} anchor;

typedef struct {
    yaml_parser_t parser;
    yaml_event_t event;         /* the one looked at */
    cfg_doc *doc;
    const char *name;           /* of the file */
    anchor *anchors;
    size_t anchor_count;
    err *e;
} reader;

static cfg_mark mark_of(const reader *r, yaml_mark_t m)
{
    return (cfg_mark){r->name, (int)m.line + 1, (int)m.column + 1};
}

static cfg_mark here(const reader *r)
{
    return mark_of(r, r->event.start_mark);
}

/* libyaml's own words, which are short and in our spelling. */
static int refused_by_parser(reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return err_set(r->e, ERR_MEMORY, "%s: no memory to read it", r->name);
    if (p->error == YAML_READER_ERROR)
        return err_set(r->e, ERR_INPUT, "%s: byte %zu: %s; files are UTF-8", r->name, p->problem_offset + 1,
                       p->problem);
    if (!p->context)
        return cfg_fail(r->e, mark_of(r, p->problem_mark), "%s", p->problem);
    return cfg_fail(r->e, mark_of(r, p->problem_mark), "%s %s that began at %zu:%zu", p->problem, p->context,
                    p->context_mark.line + 1, p->context_mark.column + 1);
}

static int next(reader *r)
{
    yaml_event_delete(&r->event);
    return yaml_parser_parse(&r->parser, &r->event) ? 0 : refused_by_parser(r);
}

/* A copy of a scalar's bytes; a zero byte would end it early in every reader that follows. */
static int take_text(reader *r, char **out)
{
    const char *bytes = (const char *)r->event.data.scalar.value;
    size_t n = r->event.data.scalar.length;
    if (memchr(bytes, 0, n))
        return cfg_fail(r->e, here(r), "a text with a zero byte in it");
    *out = cfg_text(r->doc, bytes);
    return 0;
}

static int read_scalar(reader *r, cfg_node *into)
{
    char *text = NULL;
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    TRY(take_text(r, &text));
    bool none = plain && (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
    into->kind = none ? CFG_NULL : CFG_SCALAR;
    into->plain = plain;
    into->text = none ? "" : text;
    return 0;
}

static int follow_alias(reader *r, const cfg_node **out)
{
    const char *name = (const char *)r->event.data.alias.anchor;
    for (size_t i = r->anchor_count; i-- > 0;) {
        if (strcmp(r->anchors[i].name, name) != 0)
            continue;
        *out = r->anchors[i].node;
        return *out ? 0 : cfg_fail(r->e, here(r), "*%s stands inside of what it names", name);
    }
    return cfg_fail(r->e, here(r), "*%s names nothing: no &%s before it", name, name);
}

static int check_size(reader *r, const cfg_node *n)
{
    if (n->height > CFG_DEEPEST)
        return cfg_fail(r->e, here(r), "more than %d levels, aliases followed", CFG_DEEPEST);
    if (n->weight <= CFG_NODES_MOST)
        return 0;
    return cfg_fail(r->e, here(r), "more than %d values, aliases followed", CFG_NODES_MOST);
}

static int read_node(reader *r, const cfg_node **out, int depth);

static int read_list(reader *r, cfg_node *into, int depth)
{
    for (;;) {
        const cfg_node *value;
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        TRY(read_node(r, &value, depth + 1));
        cfg_push(r->doc, into, value);
        TRY(check_size(r, into));
    }
}

static int read_key(reader *r, cfg_entry *into)
{
    if (r->event.type != YAML_SCALAR_EVENT)
        return cfg_fail(r->e, here(r), "a key must be a plain text");
    into->at = here(r);
    char *text = NULL;
    TRY(take_text(r, &text));
    into->key = text;
    if (!*text)
        return cfg_fail(r->e, into->at, "a value without a key");
    if (strcmp(text, "<<") == 0)
        return cfg_fail(r->e, into->at, "merge keys (<<) are not read; a farm's defaults: do what they are for");
    return 0;
}

static int by_key_then_place(const void *a, const void *b)
{
    const cfg_entry *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order == 0)
        order = (x->at.line > y->at.line) - (x->at.line < y->at.line);
    return order ? order : (x->at.column > y->at.column) - (x->at.column < y->at.column);
}

static int refuse_twins(reader *r, const cfg_entry *entries, size_t n)
{
    cfg_entry *sorted = mem_copy(entries, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_key_then_place);
    int rc = 0;
    for (size_t i = 1; i < n && rc == 0; i++) {
        if (strcmp(sorted[i - 1].key, sorted[i].key) == 0)
            rc = cfg_fail(r->e, sorted[i].at, "'%s' stands here a second time; first at %d:%d", sorted[i].key,
                          sorted[i - 1].at.line, sorted[i - 1].at.column);
    }
    free(sorted);
    return rc;
}

/* Read as a list whose entries have keys: cfg_put would look for each key among all before it. */
static int read_map(reader *r, cfg_node *into, int depth)
{
    for (;;) {
        const cfg_node *value;
        cfg_entry entry = {0};
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return refuse_twins(r, into->entries, into->n);
        TRY(read_key(r, &entry));
        if (into->n == CFG_KEYS_MOST)
            return cfg_fail(r->e, entry.at, "more than %d keys in one map", CFG_KEYS_MOST);
        TRY(next(r));
        TRY(read_node(r, &value, depth + 1));
        entry.value = value;
        cfg_push(r->doc, into, value);
        ((cfg_entry *)into->entries)[into->n - 1] = entry;
        TRY(check_size(r, into));
    }
}

static const char *anchor_of(const yaml_event_t *v)
{
    const yaml_char_t *a = v->type == YAML_SCALAR_EVENT         ? v->data.scalar.anchor
                           : v->type == YAML_SEQUENCE_START_EVENT ? v->data.sequence_start.anchor
                                                                  : v->data.mapping_start.anchor;
    return (const char *)a;
}

static const char *tag_of(const yaml_event_t *v)
{
    const yaml_char_t *t = v->type == YAML_SCALAR_EVENT         ? v->data.scalar.tag
                           : v->type == YAML_SEQUENCE_START_EVENT ? v->data.sequence_start.tag
                                                                  : v->data.mapping_start.tag;
    return (const char *)t;
}

static int read_body(reader *r, cfg_node *into, int depth)
{
    if (r->event.type == YAML_SCALAR_EVENT)
        return read_scalar(r, into);
    return into->kind == CFG_LIST ? read_list(r, into, depth) : read_map(r, into, depth);
}

/* An anchor before the node it names is read: an alias inside of that finds no node yet. */
static int drop_anchor(reader *r)
{
    if (r->anchor_count == CFG_ANCHORS_MOST)
        return cfg_fail(r->e, here(r), "more than %d anchors", CFG_ANCHORS_MOST);
    r->anchors = mem_grow(r->anchors, r->anchor_count + 1, sizeof *r->anchors);
    r->anchors[r->anchor_count++] = (anchor){.name = cfg_text(r->doc, anchor_of(&r->event))};
    return 0;
}

static int read_node(reader *r, const cfg_node **out, int depth)
{
    if (r->event.type == YAML_ALIAS_EVENT)
        return follow_alias(r, out);
    if (depth > CFG_DEEPEST)
        return cfg_fail(r->e, here(r), "more than %d levels", CFG_DEEPEST);
    if (tag_of(&r->event))
        return cfg_fail(r->e, here(r), "tags (%s) are not read", tag_of(&r->event));
    cfg_kind kind = r->event.type == YAML_SEQUENCE_START_EVENT ? CFG_LIST : CFG_MAP;
    cfg_node *n = cfg_node_new(r->doc, kind, here(r));
    size_t mine = r->anchor_count;
    bool anchored = anchor_of(&r->event) != NULL;
    if (anchored)
        TRY(drop_anchor(r));
    TRY(read_body(r, n, depth));
    if (anchored)
        r->anchors[mine].node = n;
    *out = n;
    return 0;
}

static int read_document(reader *r, const cfg_node **out)
{
    TRY(next(r)); /* the stream's start */
    TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT)
        return err_set(r->e, ERR_INPUT, "%s: nothing in it", r->name);
    TRY(next(r));
    TRY(read_node(r, out, 1));
    TRY(next(r)); /* the document's end */
    TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return cfg_fail(r->e, here(r), "a second document; one file holds one");
    return 0;
}

int cfg_yaml_parse(const cfg_node **out, cfg_doc *d, const char *text, size_t n, const char *name, err *e)
{
    *out = NULL;
    if (n > CFG_FILE_MOST)
        return err_set(e, ERR_INPUT, "%s: %zu bytes; at most %d are read", name, n, CFG_FILE_MOST);
    reader r = {.doc = d, .name = cfg_text(d, name), .e = e};
    if (!yaml_parser_initialize(&r.parser))
        return err_set(e, ERR_MEMORY, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    int rc = read_document(&r, out);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    free(r.anchors);
    if (rc != 0)
        *out = NULL;
    return rc;
}

int cfg_yaml_read(const cfg_node **out, cfg_doc *d, const char *path, err *e)
{
    char *text = NULL;
    size_t n;
    *out = NULL;
    TRY(fs_read(path, &text, &n, CFG_FILE_MOST, e));
    int rc = cfg_yaml_parse(out, d, text, n, path, e);
    free(text);
    return rc;
}

int cfg_value(const cfg_node **out, cfg_doc *d, const char *text, cfg_mark at, err *e)
{
    char where[CFG_WHERE];
    if (*text == '[' || *text == '{')
        return cfg_yaml_parse(out, d, text, strlen(text), cfg_where(where, at), e);
    *out = cfg_scalar(d, text, true, at);
    return 0;
}
