/* `cfarm cancel`, `retry`, `hold`, `release`, `priority`, `drain`, `stop`: what they would change is looked up first and told in
 * one sentence a name; then the order is written, to be carried out by the farm. Nothing is ordered that changes
 * nothing, and nothing at all when a name is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"

typedef struct {
    ledger *l;
    json_t *names;      /* [{name, changed, text}] */
    int changed, unknown;
} outcome;

static int on_step(void *arg, const sched_event *ev, err *e)
{
    outcome *o = arg;
    sched_effects todo = {0};
    int rc = ledger_step(o->l, ev, &todo, e);

    sched_effects_free(&todo);
    return rc;
}

static void on_tell(void *arg, const char *word, const char *name, bool changed, const char *text)
{
    outcome *o = arg;

    (void)word;
    json_array_append_new(o->names, json_pack("{s:s, s:b, s:s}", "name", name, "changed", changed, "text", text));
    o->changed += changed;
    o->unknown += sched_find(o->l->s, name) < 0;
}

static void show_names(const outcome *o, FILE *to)
{
    json_t *v;
    size_t i;

    json_array_foreach(o->names, i, v)
        fprintf(to, "%s: %s\n", json_string_value(json_object_get(v, "name")),
                json_string_value(json_object_get(v, "text")));
}

static const char *fate_word(look_fate f) { return f == LOOK_TAKEN ? "taken" : "waits"; }

static void show(const outcome *o, bool json, const char *id, look_fate fate)
{
    if (json) {
        json_t *all = json_pack("{s:O, s:i}", "names", o->names, "changed", o->changed);
        if (id[0])
            json_object_update_new(all, json_pack("{s:s, s:s}", "order", id, "fate", fate_word(fate)));
        json_dumpf(all, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(all);
        return;
    }
    show_names(o, stdout);
    if (id[0])
        puts(look_fate_text(fate));
}

/* order: taken. farm_wide: it is about no name in particular. */
static int give(const char *dir, json_t *order, bool farm_wide, bool json, err *e)
{
    outcome o = {.names = json_array()};
    spool_hands hands = {.step = on_step, .tell = on_tell, .arg = &o};
    char id[SPOOL_ID] = "";
    look_fate fate = LOOK_TAKEN;
    int rc = look_open(&o.l, dir, e);

    json_object_set_new(order, "version", json_integer(SPOOL_VERSION));
    if (rc == 0)
        rc = spool_obey(o.l->s, order, &hands, e);
    if (rc == 0 && o.unknown > 0) {
        show_names(&o, stderr);
        rc = err_set(e, ERR_INPUT, "%d of these names are wrong: nothing was ordered", o.unknown);
    } else if (rc == 0) {
        if (o.changed > 0 || farm_wide)
            rc = look_order(&fate, id, dir, json_incref(order), e);
        if (rc == 0)
            show(&o, json, id, fate);
    }
    json_decref(order);
    json_decref(o.names);
    ledger_close(o.l);
    return rc;
}

static int usage(const char *word)
{
    if (strcmp(word, "priority") == 0)
        fputs("usage: cfarm priority FARM urgent|normal|background NAME... [--json]\n", stderr);
    else if (strcmp(word, "drain") == 0 || strcmp(word, "stop") == 0)
        fprintf(stderr, "usage: cfarm %s FARM [--json]\n", word);
    else
        fprintf(stderr, "usage: cfarm %s FARM NAME... [--json]      FARM: its folder or its file\n", word);
    return FARM_BAD_INPUT;
}

static json_t *names_of(int argc, char **argv, int from)
{
    json_t *names = json_array();

    for (int i = from; i < argc; i++)
        json_array_append_new(names, json_string(argv[i]));
    return names;
}

int command_order(int argc, char **argv)
{
    bool json = look_json(&argc, argv), priority = strcmp(argv[0], "priority") == 0;
    char dir[FS_PATH];
    err e = {0};
    int from = priority ? 3 : 2;

    if (argc <= from || argv[1][0] == '-' || (priority && job_priority_find(argv[2]) < 0))
        return usage(argv[0]);
    if (look_folder(dir, argv[1], &e) != 0)
        return look_complain(&e);
    json_t *order = json_pack("{s:s, s:o}", "do", priority ? argv[2] : argv[0], "names", names_of(argc, argv, from));
    return order && give(dir, order, false, json, &e) == 0 ? FARM_DONE : look_complain(&e);
}

int command_drain(int argc, char **argv)
{
    bool json = look_json(&argc, argv);
    char dir[FS_PATH];
    err e = {0};

    if (argc != 2 || argv[1][0] == '-')
        return usage(argv[0]);
    if (look_folder(dir, argv[1], &e) != 0)
        return look_complain(&e);
    if (!ledger_busy(dir)) {
        puts(json ? "{\"changed\":0}" : "the farm does not run: there is nothing to end");
        return FARM_DONE;
    }
    return give(dir, json_pack("{s:s}", "do", argv[0]), true, json, &e) == 0 ? FARM_DONE : look_complain(&e);
}
