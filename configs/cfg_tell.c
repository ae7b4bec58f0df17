/* What was filled, for people and as JSON. */
#include <math.h>
#include <string.h>

#include "configs/cfg_impl.h"

static void show_texts(str *out, const cfg_texts *t)
{
    str_put(out, "[", 1);
    for (size_t i = 0; i < t->n; i++)
        str_add(out, "%s%s", i ? ", " : "", t->at[i]);
    str_put(out, "]", 1);
}

static const cfg_node *tree_of(const void *member)
{
    return *(const cfg_node *const *)member;
}

static void show_value(str *out, const cfg_field *row, const void *member)
{
    if (row->type == CFG_TEXTS)
        show_texts(out, member);
    else if (row->type == CFG_TABLE)
        str_add(out, "%zu entries", ((const cfg_table *)member)->n);
    else if (row->type == CFG_TREE)
        str_add(out, "%zu entries", tree_of(member) ? tree_of(member)->n : 0);
    else
        cfg_print(row, member, out);
}

void cfg_show(FILE *to, const cfg *c)
{
    for (const cfg_origin *o = c->first; o; o = o->next) {
        str value = {0};
        char where[CFG_WHERE];
        show_value(&value, o->row, o->member);
        const char *from = o->given ? cfg_where(where, o->at) : "default";
        fprintf(to, "%-28s %-28s # %s\n", o->path, value.at ? value.at : "", from);
        str_free(&value);
    }
}

static bool may_be_absent(const cfg_field *row)
{
    return row->fallback && !*row->fallback;
}

static const cfg_node *node_of(cfg_doc *d, const cfg_field *row, const void *member);

static cfg_node *node_of_rows(cfg_doc *d, cfg_node *map, const cfg_field *rows, const void *base)
{
    for (const cfg_field *row = rows; row->key; row++)
        cfg_put(d, map, row->key, (cfg_mark){0}, node_of(d, row, (const char *)base + row->at));
    return map;
}

/* What is empty because nothing was given stays out: its row may not allow it to be given as empty. */
static const cfg_node *node_of(cfg_doc *d, const cfg_field *row, const void *member)
{
    cfg_mark nowhere = {0};
    cfg_node *list = cfg_node_new(d, CFG_LIST, nowhere);
    if (row->type == CFG_TREE)
        return tree_of(member) ? tree_of(member) : cfg_node_new(d, CFG_NULL, nowhere);
    if (row->type == CFG_TEXTS) {
        const cfg_texts *t = member;
        for (size_t i = 0; i < t->n; i++)
            cfg_push(d, list, cfg_scalar(d, t->at[i], false, nowhere));
    } else if (row->type == CFG_TABLE) {
        const cfg_table *t = member;
        for (size_t i = 0; i < t->n; i++) {
            const void *one = (const char *)t->at + i * row->each;
            cfg_push(d, list, node_of_rows(d, cfg_node_new(d, CFG_MAP, nowhere), row->rows, one));
        }
    } else {
        str text = {0};
        cfg_print(row, member, &text);
        bool plain = row->type == CFG_BOOL || row->type == CFG_INT || row->type == CFG_REAL;
        const cfg_node *v = cfg_scalar(d, text.at, plain, nowhere);
        str_free(&text);
        return *v->text || !may_be_absent(row) ? v : cfg_node_new(d, CFG_NULL, nowhere);
    }
    return list->n > 0 || !may_be_absent(row) ? list : cfg_node_new(d, CFG_NULL, nowhere);
}

char *cfg_values(const cfg *c)
{
    cfg_doc *d = cfg_doc_new();
    cfg_node *map = cfg_node_new(d, CFG_MAP, (cfg_mark){0});
    for (size_t i = 0; i < c->n; i++)
        node_of_rows(d, map, c->sections[i].rows, c->sections[i].into);
    char *text = cfg_json(map);
    cfg_doc_free(d);
    return text;
}
