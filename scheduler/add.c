/* `cfarm add FARM PIECE`: checked as `cfarm plan` does, then durable in the farm's spool before it says accepted. What is
 * there already is no mistake; what cannot be taken is told, and the rest is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/str.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"
#include "scheduler/prepare.h"

enum { NAMES_SHOWN = 10 };

typedef struct {
    json_t *accepted, *there, *refused; /* names; {name, state}; {name, why} */
} answer;

static void on_tell(void *arg, const char *name, intake_answer is, const char *text)
{
    answer *a = arg;
    bool there = is == INTAKE_SAME;

    json_array_append_new(there ? a->there : a->refused,
                          json_pack("{s:s, s:s}", "name", name, there ? "state" : "why", text));
}

/* What the piece has changed in the picture of the farm, each after what it needs: new ones in the order of their
 * numbers, then old ones, whose numbers are older. */
static json_t *jobs_of(const sched *s, const intake *in, int before, answer *a)
{
    json_t *jobs = json_array();

    for (int i = before; i < s->jobs; i++)
        json_array_append_new(jobs, sched_write_spec(&s->job[i].spec));
    for (size_t i = 0; i < in->n; i++) {
        const char *name = in->at[i].merge ? in->at[i].merge->name : in->at[i].concept->name;
        int at = sched_find(s, name);
        json_array_append_new(a->accepted, json_string(name));
        if (at < before)
            json_array_append_new(jobs, sched_write_spec(&s->job[at].spec));
    }
    return jobs;
}

static int accept_piece(prepared *p, const farmfile *piece, const char *path, answer *a, look_fate *fate, err *e)
{
    json_t *checked = NULL, *jobs;
    char id[SPOOL_ID];
    int before = p->l->s->jobs, rc = 0;

    if (p->changes.trainings > 0)
        rc = prepare_check(&checked, p->f->path, path, e);
    if (rc == 0)
        rc = intake_apply(&p->changes, p->l, piece, checked, e);
    json_decref(checked);
    if (rc != 0)
        return rc;
    jobs = jobs_of(p->l->s, &p->changes, before, a);
    return look_order(fate, id, p->f->dir, json_pack("{s:s, s:o}", "do", "add", "jobs", jobs), e);
}

static int add(const char *farm, const char *path, answer *a, look_fate *fate, err *e)
{
    farmfile *piece;
    prepared p;
    char dir[FS_PATH];
    int rc;

    TRY(look_folder(dir, farm, e));
    rc = prepare_read(&p, dir, 0, e);
    if (rc == 0)
        rc = look_open(&p.l, dir, e);
    if (rc == 0)
        rc = farm_piece(&piece, p.f, path, e);
    if (rc == 0)
        rc = intake_compare_piece(&p.changes, p.l, piece, on_tell, a, e);
    if (rc == 0 && p.changes.n > 0)
        rc = accept_piece(&p, piece, path, a, fate, e);
    prepare_free(&p);
    return rc;
}

/* ---- telling -------------------------------------------------------------------------------------------------- */

static void show_accepted(const json_t *names)
{
    size_t n = json_array_size(names);

    printf("accepted %zu", n);
    for (size_t i = 0; i < n && i < NAMES_SHOWN; i++)
        printf("%s%s", i == 0 ? ": " : ", ", json_string_value(json_array_get(names, i)));
    puts(n > NAMES_SHOWN ? ", ..." : "");
}

static void show_pairs(const json_t *list, const char *what, const char *key, size_t most)
{
    size_t n = json_array_size(list);

    for (size_t i = 0; i < n && i < most; i++) {
        const json_t *o = json_array_get(list, i);
        printf("%s %s: %s\n", what, json_string_value(json_object_get(o, "name")),
               json_string_value(json_object_get(o, key)));
    }
    if (n > most)
        printf("%s %zu more\n", what, n - most);
}

static void show(const answer *a, look_fate fate, bool json)
{
    if (json) {
        json_t *o = json_pack("{s:O, s:O, s:O, s:s}", "accepted", a->accepted, "there", a->there, "refused", a->refused,
                              "fate", fate == LOOK_TAKEN ? "taken" : "waits");
        json_dumpf(o, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(o);
        return;
    }
    show_pairs(a->there, "there already", "state", NAMES_SHOWN);
    show_pairs(a->refused, "refused", "why", (size_t)-1);
    show_accepted(a->accepted);
    if (json_array_size(a->accepted) > 0)
        puts(look_fate_text(fate));
}

int command_add(int argc, char **argv)
{
    bool json = look_json(&argc, argv);
    answer a = {json_array(), json_array(), json_array()};
    look_fate fate = LOOK_TAKEN;
    err e = {0};
    int status;

    if (argc != 3 || argv[1][0] == '-' || argv[2][0] == '-') {
        fputs("usage: cfarm add FARM PIECE [--json]\n"
              "  FARM    its folder or its file\n"
              "  PIECE   a table (.tsv) or YAML with concepts: and merge:, under the farm's defaults\n",
              stderr);
        status = FARM_BAD_INPUT;
    } else if (add(argv[1], argv[2], &a, &fate, &e) != 0) {
        status = look_complain(&e);
    } else {
        show(&a, fate, json);
        status = json_array_size(a.refused) > 0 ? FARM_SOME_FAILED : FARM_DONE;
    }
    json_decref(a.accepted);
    json_decref(a.there);
    json_decref(a.refused);
    return status;
}
