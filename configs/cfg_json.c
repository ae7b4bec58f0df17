/* A tree as one line of JSON whose bytes depend on its meaning alone: the settings hash is taken over them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg_node.h"

static const char *digits(const char *s)
{
    while (isdigit((unsigned char)*s))
        s++;
    return s;
}

/* RFC 8259, section 6. */
static bool is_json_number(const char *s)
{
    s += *s == '-';
    const char *whole = s;
    s = digits(s);
    if (s == whole || (*whole == '0' && s > whole + 1))
        return false;
    if (*s == '.') {
        const char *from = ++s;
        if ((s = digits(s)) == from)
            return false;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+' || *s == '-';
        const char *from = s;
        if ((s = digits(s)) == from)
            return false;
    }
    return *s == 0;
}

static void quote(str *out, const char *s)
{
    str_put(out, "\"", 1);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            str_add(out, "\\%c", *s);
        else if ((unsigned char)*s < ' ' || *s == 127)
            str_add(out, "\\u%04x", (unsigned)*s);
        else
            str_put(out, s, 1);
    }
    str_put(out, "\"", 1);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const cfg_entry *)a)->key, ((const cfg_entry *)b)->key);
}

static void write_node(str *out, const cfg_node *n);

static void write_map(str *out, const cfg_node *map)
{
    cfg_entry *sorted = mem_copy(map->entries, map->n * sizeof *sorted);
    qsort(sorted, map->n, sizeof *sorted, by_key);
    const char *between = "{";
    for (size_t i = 0; i < map->n; i++) {
        if (sorted[i].value->kind == CFG_NULL)
            continue;
        str_add(out, "%s", between);
        quote(out, sorted[i].key);
        str_put(out, ":", 1);
        write_node(out, sorted[i].value);
        between = ",";
    }
    free(sorted);
    str_add(out, "%s", *between == '{' ? "{}" : "}");
}

static void write_list(str *out, const cfg_node *list)
{
    str_put(out, "[", 1);
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            str_put(out, ",", 1);
        write_node(out, list->entries[i].value);
    }
    str_put(out, "]", 1);
}

static void write_scalar(str *out, const cfg_node *n)
{
    bool bare = strcmp(n->text, "true") == 0 || strcmp(n->text, "false") == 0 || is_json_number(n->text);
    if (n->plain && bare)
        str_add(out, "%s", n->text);
    else
        quote(out, n->text);
}

static void write_node(str *out, const cfg_node *n)
{
    switch (n->kind) {
    case CFG_NULL: str_add(out, "null"); break;
    case CFG_SCALAR: write_scalar(out, n); break;
    case CFG_LIST: write_list(out, n); break;
    case CFG_MAP: write_map(out, n); break;
    }
}

char *cfg_json(const cfg_node *n)
{
    str out = {0};
    write_node(&out, n);
    return out.at;
}
