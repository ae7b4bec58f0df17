/* concepts.tsv: a table anyone can write from a spreadsheet. The first line names the keys ("regularisation.images"
 * reaches into a map), each further line is one concept; an empty cell is not given; blank lines and lines beginning
 * with # are passed over. No quoting: a cell holds no tab and no line end. */
#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "configs/cfg_yaml.h"
#include "configs/farm_impl.h"

enum { COLUMNS_MOST = 256, DOTS_MOST = 4 };

typedef struct {
    cfg_doc *doc;
    const char *file;
    int line;
    size_t columns;
    const char *keys[COLUMNS_MOST];
    err *e;
} table;

typedef struct {
    char *text;
    cfg_mark at;
} cell;

static int width(const char *s, size_t n)
{
    int w = 0;
    for (size_t i = 0; i < n; i++)
        w += ((unsigned char)s[i] & 0xc0) != 0x80; /* code points, as the columns of YAML */
    return w;
}

static char *trimmed(char *s)
{
    while (*s == ' ')
        s++;
    size_t n = strlen(s);
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\r'))
        s[--n] = 0;
    return s;
}

/* Cuts the line at its tabs. */
static int split(table *t, char *line, cell cells[COLUMNS_MOST], size_t *n)
{
    int column = 1;
    *n = 0;
    for (char *s = line, *end; s; s = end) {
        cfg_mark at = {t->file, t->line, column};
        if (*n == COLUMNS_MOST)
            return cfg_fail(t->e, at, "more than %d columns", COLUMNS_MOST);
        end = strchr(s, '\t');
        column += width(s, end ? (size_t)(end - s) : strlen(s)) + 1;
        if (end)
            *end++ = 0;
        cells[(*n)++] = (cell){trimmed(s), at};
    }
    return 0;
}

static bool is_key(const char *s)
{
    int dots = 0;
    bool gap = true; /* a dot, or the start: a name must follow */
    for (; *s; s++) {
        if (*s == '.' && gap)
            return false;
        if (*s != '.' && !isalnum((unsigned char)*s) && *s != '_' && *s != '-')
            return false;
        gap = *s == '.';
        dots += gap;
    }
    return !gap && dots <= DOTS_MOST;
}

/* "a" and "a", or "a" and "a.b": one of them would be lost. */
static bool clash(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b), n = na < nb ? na : nb;
    if (strncmp(a, b, n) != 0)
        return false;
    return na == nb || (na < nb ? b[n] : a[n]) == '.';
}

static int read_head(table *t, char *line)
{
    cell cells[COLUMNS_MOST];
    TRY(split(t, line, cells, &t->columns));
    for (size_t i = 0; i < t->columns; i++) {
        if (!is_key(cells[i].text))
            return cfg_fail(t->e, cells[i].at, "'%.60s' is no key; the first line names the columns", cells[i].text);
        for (size_t j = 0; j < i; j++) {
            if (clash(t->keys[j], cells[i].text))
                return cfg_fail(t->e, cells[i].at, "column '%s' clashes with column '%s'", cells[i].text, t->keys[j]);
        }
        t->keys[i] = cfg_text(t->doc, cells[i].text);
    }
    return 0;
}

static int read_row(table *t, char *line, cfg_node *list)
{
    cell cells[COLUMNS_MOST];
    size_t n;
    TRY(split(t, line, cells, &n));
    cfg_node *map = cfg_node_new(t->doc, CFG_MAP, cells[0].at);
    for (size_t i = 0; i < n; i++) {
        const cfg_node *value;
        if (!*cells[i].text)
            continue;
        if (i >= t->columns)
            return cfg_fail(t->e, cells[i].at, "'%.60s' stands beyond the last of %zu columns", cells[i].text,
                            t->columns);
        TRY(cfg_value(&value, t->doc, cells[i].text, cells[i].at, t->e));
        cfg_put(t->doc, map, t->keys[i], cells[i].at, value);
    }
    cfg_push(t->doc, list, map);
    return 0;
}

static int check_text(const table *t, const char *line, size_t n)
{
    cfg_mark at = {t->file, t->line, 1};
    if (memchr(line, 0, n))
        return cfg_fail(t->e, at, "a zero byte in this line");
    json_t *probe = json_stringn(line, n); /* refuses what is not UTF-8 */
    json_decref(probe);
    return probe ? 0 : cfg_fail(t->e, at, "this line is not UTF-8");
}

static int read_lines(table *t, char *text, size_t n, cfg_node *list)
{
    char *end = text + n;
    for (char *s = text, *after; s < end; s = after) {
        char *stop = memchr(s, '\n', (size_t)(end - s));
        after = stop ? stop + 1 : end;
        if (stop)
            *stop = 0;
        t->line++;
        TRY(check_text(t, s, (size_t)((stop ? stop : end) - s)));
        if (*s == '#' || s[strspn(s, " \t\r")] == 0)
            continue;
        TRY(t->columns ? read_row(t, s, list) : read_head(t, s));
    }
    return t->columns ? 0 : err_set(t->e, ERR_INPUT, "%s: nothing in it; the first line names the columns", t->file);
}

int farm_table(const cfg_node **out, cfg_doc *d, const char *path, err *e)
{
    char *text;
    size_t n;
    TRY(fs_read(path, &text, &n, CFG_FILE_MOST, e));
    table t = {.doc = d, .file = cfg_text(d, path), .e = e};
    cfg_node *list = cfg_node_new(d, CFG_LIST, (cfg_mark){t.file, 1, 1});
    size_t mark = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* spreadsheets put one */
    int rc = read_lines(&t, text + mark, n - mark, list);
    free(text);
    *out = list;
    return rc;
}
