/* What the parts of a farm file must be to each other. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/farm_impl.h"

int farm_check_name(const char *name, cfg_mark at, err *e)
{
    enum { LONGEST = 64 };
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-";
    size_t n = strlen(name);
    if (n > 0 && n <= LONGEST && strspn(name, allowed) == n && name[0] != '.' && name[0] != '-')
        return 0;
    return cfg_fail(e, at, "'%.70s' cannot be a name: it becomes a file's, so 1 to %d letters, digits, . _ + -, not "
                    "beginning with . or -", name, LONGEST);
}

/* Compares names, then places in the file's order: of two with one name the second is the one refused. */
static int by_name_and_place(const void *a, const void *b)
{
    const farm_concept *const *x = a, *const *y = b;
    int order = strcmp((*x)->name, (*y)->name);
    return order ? order : (*x > *y) - (*x < *y);
}

static int against_name(const void *name, const void *concept)
{
    return strcmp(name, (*(const farm_concept *const *)concept)->name);
}

const farm_concept *farm_find(const farmfile *f, const char *name)
{
    const farm_concept **found = NULL;
    if (f->concept_count > 0)
        found = bsearch(name, f->by_name, f->concept_count, sizeof *f->by_name, against_name);
    return found ? *found : NULL;
}

static int check_twins(const farmfile *f, err *e)
{
    for (size_t i = 1; i < f->concept_count; i++) {
        const farm_concept *a = f->by_name[i - 1], *b = f->by_name[i];
        char where[CFG_WHERE];
        if (strcmp(a->name, b->name) == 0)
            return cfg_fail(e, b->at, "a second concept named '%s'; the first stands at %s", b->name,
                            cfg_where(where, a->at));
    }
    return 0;
}

static const char *nearest_concept(const farmfile *f, const char *name)
{
    const char **names = NEW_N(const char *, f->concept_count + 1);
    for (size_t i = 0; i < f->concept_count; i++)
        names[i] = f->concepts[i].name;
    const char *near = str_nearest(name, names);
    free(names);
    return near;
}

static int refuse_stranger(const farmfile *f, const char *what, const char *name, cfg_mark at, err *e)
{
    const char *near = nearest_concept(f, name);
    if (near)
        return cfg_fail(e, at, "%s '%.70s', which is no concept here; did you mean '%s'?", what, name, near);
    return cfg_fail(e, at, "%s '%.70s', which is no concept here", what, name);
}

/* Depth first, without recursion: a chain may be as long as the farm. */
typedef struct {
    unsigned char *state;   /* of each concept: 0 not seen, 1 on the path, 2 done */
    size_t *path, *next;    /* concepts on the path, and each one's next dependency to look at */
} walk;

static int walk_from(const farmfile *f, walk *w, size_t start, err *e)
{
    size_t depth = 0;
    w->path[0] = start;
    w->next[0] = 0;
    w->state[start] = 1;
    for (;;) {
        const farm_concept *c = &f->concepts[w->path[depth]];
        if (w->next[depth] == c->depends.n) {
            w->state[w->path[depth]] = 2;
            if (depth-- == 0)
                return 0;
            continue;
        }
        const char *name = c->depends.at[w->next[depth]++];
        const farm_concept *to = farm_find(f, name);
        if (!to && f->piece)
            continue;
        if (!to)
            return refuse_stranger(f, "depends on", name, c->at, e);
        size_t i = (size_t)(to - f->concepts);
        if (w->state[i] == 1)
            return cfg_fail(e, c->at, "'%s' waits for '%s', which waits for it", c->name, to->name);
        if (w->state[i] == 2)
            continue;
        w->state[i] = 1;
        w->path[++depth] = i;
        w->next[depth] = 0;
    }
}

static int check_depends(const farmfile *f, err *e)
{
    int rc = 0;
    size_t n = f->concept_count;
    walk w = {NEW_N(unsigned char, n), NEW_N(size_t, n + 1), NEW_N(size_t, n + 1)};
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (w.state[i] == 0)
            rc = walk_from(f, &w, i, e);
    }
    free(w.state);
    free(w.path);
    free(w.next);
    return rc;
}

int farm_check_concepts(farmfile *f, err *e)
{
    f->by_name = cfg_room(f->doc, f->concept_count * sizeof *f->by_name);
    for (size_t i = 0; i < f->concept_count; i++)
        f->by_name[i] = &f->concepts[i];
    qsort(f->by_name, f->concept_count, sizeof *f->by_name, by_name_and_place);
    TRY(check_twins(f, e));
    return check_depends(f, e);
}

static bool is_path(const char *s)
{
    return strchr(s, '/') || str_ends(s, ".h5");
}

static int check_parts(const farmfile *f, const farm_merge *m, err *e)
{
    for (size_t i = 0; i < m->of.n; i++) {
        const char *name = m->of.at[i];
        if (!is_path(name) && !farm_find(f, name) && !f->piece)
            return refuse_stranger(f, "merges", name, m->at, e);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(name, m->of.at[j]) == 0)
                return cfg_fail(e, m->at, "merges '%s' twice", name);
        }
    }
    return 0;
}

int farm_check_merges(const farmfile *f, err *e)
{
    for (size_t i = 0; i < f->merge_count; i++) {
        const farm_merge *m = &f->merges[i];
        if (farm_find(f, m->name))
            return cfg_fail(e, m->at, "a concept is named '%s', too; their files would be one", m->name);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(m->name, f->merges[j].name) == 0)
                return cfg_fail(e, m->at, "a second merge named '%s'; the first stands at line %d", m->name,
                                f->merges[j].at.line);
        }
        TRY(check_parts(f, m, e));
    }
    return 0;
}
