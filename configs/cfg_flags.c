/* Flags, which are rows by another way in, and the help that is read from rows. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "configs/cfg_impl.h"
#include "configs/cfg_yaml.h"

static bool is_flag(const char *arg)
{
    return arg[0] == '-' && arg[1] == '-' && arg[2];
}

/* The row a flag's name means: its key, alone or behind its section's name. */
static const cfg_field *row_of(const cfg_section *sections, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        size_t skip = strlen(sections[i].name);
        bool headed = strncmp(name, sections[i].name, skip) == 0 && name[skip] == '.';
        for (const cfg_field *f = sections[i].rows; f->key; f++) {
            if (strcmp(f->key, name) == 0 || (headed && strcmp(f->key, name + skip + 1) == 0))
                return f;
        }
    }
    return NULL;
}

static const cfg_node *at_path(const cfg_node *map, const char *path)
{
    const char *dot = strchr(path, '.');
    if (!dot)
        return cfg_get(map, path);
    char *head = strndup(path, (size_t)(dot - path));
    const cfg_node *inner = cfg_get(map, head);
    free(head);
    return at_path(inner, dot + 1);
}

static int refuse_without(err *e, const char *arg, const cfg_field *row)
{
    str s = {0};
    cfg_allowed(row, &s);
    int rc = err_set(e, ERR_INPUT, "%s needs a value: %s", arg, s.at);
    str_free(&s);
    return rc;
}

/* Puts one flag's value into the map; a list's flag may come again, each adding one. */
static int take(cfg_node *flags, cfg_doc *d, const cfg_field *row, const char *arg, const char *value, err *e)
{
    cfg_mark at = {.file = cfg_text(d, arg)};
    const cfg_node *v, *old = at_path(flags, row->key);
    bool many = row->type == CFG_TEXTS || row->type == CFG_TABLE;
    if (old && !many)
        return err_set(e, ERR_INPUT, "%s is given twice", arg);
    if (many || row->type == CFG_TREE)
        TRY(cfg_value(&v, d, value, at, e));
    else
        v = cfg_scalar(d, value, true, at);
    if (old) {
        cfg_node *both = cfg_node_new(d, CFG_LIST, at);
        for (size_t i = 0; i < old->n; i++)
            cfg_push(d, both, old->entries[i].value);
        cfg_push(d, both, v);
        v = both;
    } else if (many && v->kind != CFG_LIST) {
        cfg_node *one = cfg_node_new(d, CFG_LIST, at);
        cfg_push(d, one, v);
        v = one;
    }
    cfg_put(d, flags, row->key, at, v);
    return 0;
}

int cfg_args(cfg_node **flags, cfg_doc *d, const cfg_section *sections, size_t n, int *argc, char **argv, err *e)
{
    cfg_node *map = cfg_node_new(d, CFG_MAP, (cfg_mark){.file = "flags"});
    int kept = 0, i = 0;
    for (; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        char *name = is_flag(argv[i]) ? strndup(argv[i] + 2, strcspn(argv[i] + 2, "=")) : NULL;
        const cfg_field *row = name ? row_of(sections, n, name) : NULL;
        const char *equals = strchr(argv[i], '=');
        char *flag = cfg_text(d, argv[i]);
        flag[equals ? (size_t)(equals - argv[i]) : strlen(flag)] = 0;
        free(name);
        if (!row) {
            argv[kept++] = argv[i];
            continue;
        }
        const char *value = equals ? equals + 1 : row->type == CFG_BOOL ? "true" : i + 1 < *argc ? argv[++i] : NULL;
        if (!value)
            return refuse_without(e, flag, row);
        TRY(take(map, d, row, flag, value, e));
    }
    for (; i < *argc; i++)
        argv[kept++] = argv[i];
    *argc = kept;
    argv[kept] = NULL;
    *flags = map;
    return 0;
}

static int refuse_flag(const cfg_section *sections, size_t n, const char *arg, err *e)
{
    size_t count = 0;
    const char **names = NEW(const char *);
    for (size_t i = 0; i < n; i++) {
        for (const cfg_field *f = sections[i].rows; f->key; f++) {
            names = mem_grow(names, count + 2, sizeof *names);
            names[count++] = f->key;
        }
    }
    names[count] = NULL;
    char *name = strndup(arg + 2, strcspn(arg + 2, "="));
    const char *near = str_nearest(name, names);
    int rc = near ? err_set(e, ERR_INPUT, "unknown flag '--%s'; did you mean '--%s'?", name, near)
                  : err_set(e, ERR_INPUT, "unknown flag '--%s'; --help lists them", name);
    free(name);
    free(names);
    return rc;
}

int cfg_args_done(const cfg_section *sections, size_t n, int argc, char **argv, err *e)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (is_flag(argv[i]))
            return refuse_flag(sections, n, argv[i], e);
    }
    return 0;
}

static void help_row(FILE *to, const cfg_field *row, const char *prefix)
{
    str allowed = {0};
    cfg_allowed(row, &allowed);
    char head[128];
    snprintf(head, sizeof head, "%s%s", prefix, row->key);
    fprintf(to, "  --%-26s %s\n  %-28s %s; ", head, row->help, "", allowed.at);
    if (!row->fallback)
        fprintf(to, "must be given\n");
    else
        fprintf(to, "default %s\n", *row->fallback ? row->fallback : "none");
    str_free(&allowed);
}

void cfg_help(FILE *to, const cfg_section *sections, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fprintf(to, "%s%s:\n", i ? "\n" : "", sections[i].name);
        for (const cfg_field *f = sections[i].rows; f->key; f++) {
            help_row(to, f, "");
            for (const cfg_field *inner = f->rows; inner && inner->key; inner++)
                fprintf(to, "      %-24s %s\n", inner->key, inner->help);
        }
    }
}
