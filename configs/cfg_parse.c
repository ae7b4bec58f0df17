/* One value between the text in a file and the member of a struct, and what to say about it when it does not fit. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "configs/cfg_impl.h"

typedef struct {
    const char *name;
    double is;
} unit;
/* Largest first, so that printing takes the first that divides. */
static const unit BYTE_UNITS[] = {{"TiB", 0x1p40}, {"GiB", 0x1p30}, {"MiB", 0x1p20}, {"KiB", 0x1p10}, {"TB", 1e12},
                                  {"GB", 1e9},     {"MB", 1e6},     {"kB", 1e3},     {"B", 1},        {NULL, 0}};
static const unit TIME_UNITS[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {"ms", 1e-3}, {NULL, 0}};

static const unit *units_of(const cfg_field *row)
{
    return row->type == CFG_BYTES ? BYTE_UNITS : TIME_UNITS;
}

static bool in_range(const cfg_field *row, double v)
{
    return (row->least == 0 && row->most == 0) || (v >= row->least && v <= row->most);
}

static bool set_int(const cfg_field *row, int64_t v, void *member)
{
    if (row->size == sizeof(int)) {
        *(int *)member = (int)v;
        return v >= INT_MIN && v <= INT_MAX;
    }
    CHECK(row->size == sizeof v);
    memcpy(member, &v, sizeof v);
    return true;
}

static bool set_real(const cfg_field *row, double v, void *member)
{
    if (row->size == sizeof(float)) {
        *(float *)member = (float)v;
        return true;
    }
    CHECK(row->size == sizeof v);
    memcpy(member, &v, sizeof v);
    return true;
}

static bool has_whole_member(const cfg_field *row)
{
    return row->type == CFG_INT || row->type == CFG_BYTES;
}

static bool set_number(const cfg_field *row, double v, void *member)
{
    return has_whole_member(row) ? set_int(row, (int64_t)v, member) : set_real(row, v, member);
}

static double get_number(const cfg_field *row, const void *member)
{
    if (row->type == CFG_INT && row->size == sizeof(int))
        return *(const int *)member;
    if (has_whole_member(row))
        return (double)*(const int64_t *)member;
    return row->size == sizeof(float) ? (double)*(const float *)member : *(const double *)member;
}

static int index_of(const char *const *names, const char *text)
{
    for (int i = 0; names && names[i]; i++) {
        if (strcmp(names[i], text) == 0)
            return i;
    }
    return -1;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", NULL};
    int i = index_of(words, text);
    *out = i % 2 == 1;
    return i >= 0;
}

/* Where yes and no are among the names, all words for them are taken. */
static int choice_of(const char *const *names, const char *text)
{
    int i = index_of(names, text);
    bool yes;
    return i >= 0 || !parse_bool(text, &yes) ? i : index_of(names, yes ? "yes" : "no");
}

static bool parse_int(const cfg_field *row, const char *text, void *member)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool whole = end != text && *end == 0 && errno == 0 && !isspace((unsigned char)*text);
    return whole && in_range(row, (double)v) && set_int(row, v, member);
}

/* A decimal number at *s, which then stands behind it; strtod alone would take "inf", "nan" and "0x1p3" as well. */
static bool take_decimal(const char **s, double *out)
{
    const char *p = *s + (**s == '-' || **s == '+');
    if (!isdigit((unsigned char)*p) && *p != '.')
        return false;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X'))
        return false;
    char *end;
    *out = strtod(*s, &end);
    bool taken = end != *s && isfinite(*out);
    *s = end;
    return taken;
}

static const unit *take_unit(const unit *units, const char **s)
{
    while (**s == ' ')
        (*s)++;
    for (const unit *u = units; u->name; u++) {
        size_t n = strlen(u->name);
        if (strncmp(*s, u->name, n) == 0 && !isalpha((unsigned char)(*s)[n])) {
            *s += n;
            return u;
        }
    }
    return NULL;
}

/* "8GiB", "1.5 GB", "1h30m", or a bare number in the base unit. */
static bool parse_measure(const cfg_field *row, const char *text, double *sum)
{
    *sum = 0;
    const char *s = text;
    do {
        double v;
        if (!take_decimal(&s, &v) || v < 0)
            return false;
        const unit *u = take_unit(units_of(row), &s);
        if (!u && (*s != 0 || *sum > 0))
            return false;
        *sum += v * (u ? u->is : 1);
    } while (*s && row->type == CFG_SECONDS);
    return *s == 0 && *sum < 0x1p62;
}

static bool parse_number(const cfg_field *row, const char *text, void *member)
{
    double v;
    const char *s = text;
    bool read = false;
    if (row->type == CFG_BYTES || row->type == CFG_SECONDS) {
        read = parse_measure(row, text, &v);
    } else if (row->type == CFG_REAL) {
        read = take_decimal(&s, &v) && *s == 0;
    } else {
        read = take_decimal(&s, &v) && strcmp(s, "%") == 0;
        v /= 100;
    }
    return read && in_range(row, v) && set_number(row, v, member);
}

bool cfg_parse(const cfg_field *row, const char *text, void *member)
{
    int word = index_of(row->names, text);
    switch (row->type) {
    case CFG_BOOL: CHECK(row->size == sizeof(bool)); return parse_bool(text, member);
    case CFG_CHOICE:
        word = choice_of(row->names, text);
        return word >= 0 && set_int(row, word, member);
    case CFG_TEXT:
        CHECK(row->size == sizeof text);
        memcpy(member, &text, sizeof text);
        return in_range(row, (double)strlen(text));
    case CFG_INT: return word >= 0 ? set_int(row, -1 - word, member) : parse_int(row, text, member);
    case CFG_REAL:
    case CFG_BYTES:
    case CFG_SECONDS:
    case CFG_PERCENT: return word >= 0 ? set_number(row, -1 - word, member) : parse_number(row, text, member);
    case CFG_TEXTS:
    case CFG_TABLE:
    case CFG_TREE: break;
    }
    return false;
}

/* v * scale in the fewest digits that read back, divided by scale, as the same number. */
static void print_real(str *out, double v, double scale, bool single)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v * scale);
        double back = strtod(text, NULL) / scale;
        if (single ? (float)back == (float)v : back == v)
            break;
    }
    str_add(out, "%s", text);
}

static bool divides(const unit *u, double v)
{
    return v >= u->is && fmod(v, u->is) == 0;
}

static void print_number(const cfg_field *row, double v, str *out)
{
    if (row->type == CFG_INT) {
        str_add(out, "%.0f", v);
    } else if (row->type == CFG_REAL) {
        print_real(out, v, 1, row->size == sizeof(float));
    } else if (row->type == CFG_PERCENT) {
        print_real(out, v, 100, false); /* 0.07 * 100 is 7.000000000000001 */
        str_put(out, "%", 1);
    } else {
        const unit *u = units_of(row);
        const char *base = row->type == CFG_BYTES ? "B" : "s";
        while (u->name && strcmp(u->name, base) != 0 && !divides(u, v))
            u++;
        print_real(out, v / u->is, 1, false);
        str_add(out, "%s", u->name);
    }
}

void cfg_print(const cfg_field *row, const void *member, str *out)
{
    double v;
    switch (row->type) {
    case CFG_BOOL: str_add(out, "%s", *(const bool *)member ? "true" : "false"); return;
    case CFG_CHOICE: str_add(out, "%s", row->names[*(const int *)member]); return;
    case CFG_TEXT: str_add(out, "%s", *(const char *const *)member); return;
    case CFG_INT:
    case CFG_REAL:
    case CFG_BYTES:
    case CFG_SECONDS:
    case CFG_PERCENT: break;
    case CFG_TEXTS:
    case CFG_TABLE:
    case CFG_TREE: return;
    }
    v = get_number(row, member);
    if (row->names && v < 0)
        str_add(out, "%s", row->names[(int)(-1 - v)]);
    else if (row->type == CFG_INT && row->size != sizeof(int))
        str_add(out, "%" PRId64, *(const int64_t *)member);
    else
        print_number(row, v, out);
}

static void add_names(const cfg_field *row, str *out)
{
    for (int i = 0; row->names[i]; i++) {
        const char *between = i == 0 ? "" : row->names[i + 1] ? ", " : " or ";
        str_add(out, "%s%s", between, row->names[i]);
    }
}

static void add_range(const cfg_field *row, str *out)
{
    if (row->least == 0 && row->most == 0)
        return;
    bool open = isinf(row->most);
    str_add(out, "%s", open ? " of at least " : " from ");
    print_number(row, row->least, out);
    if (open)
        return;
    str_add(out, " to ");
    print_number(row, row->most, out);
}

/* Bytes of a text, entries of a list. */
static void add_count(const cfg_field *row, const char *what, str *out)
{
    if (row->most > 0 && isinf(row->most))
        str_add(out, " of at least %.0f %s", row->least, what);
    else if (row->most > 0)
        str_add(out, " of %.0f to %.0f %s", row->least, row->most, what);
}

void cfg_allowed(const cfg_field *row, str *out)
{
    switch (row->type) {
    case CFG_BOOL: str_add(out, "true or false"); return;
    case CFG_CHOICE: add_names(row, out); return;
    case CFG_TEXT: str_add(out, "a text"); add_count(row, "bytes", out); return;
    case CFG_TEXTS:
        str_add(out, "a list of %s", row->names ? "" : "texts");
        if (row->names)
            add_names(row, out);
        add_count(row, "entries", out);
        return;
    case CFG_TREE: str_add(out, "a list or a map"); return;
    case CFG_TABLE: str_add(out, "a list of maps"); add_count(row, "entries", out); return;
    case CFG_INT: str_add(out, "a whole number"); break;
    case CFG_REAL: str_add(out, "a number"); break;
    case CFG_BYTES: str_add(out, "a size such as 8GiB"); break;
    case CFG_SECONDS: str_add(out, "a time such as 90s, 5m or 1h30m"); break;
    case CFG_PERCENT: str_add(out, "a percentage such as 90%%"); break;
    }
    bool spelled = row->type != CFG_INT && row->type != CFG_REAL;
    bool ranged = row->least != 0 || row->most != 0;
    str_add(out, "%s", spelled && ranged ? "," : "");
    add_range(row, out);
    if (row->unit)
        str_add(out, " %s", row->unit);
    if (row->names) {
        str_add(out, ", or ");
        add_names(row, out);
    }
}
