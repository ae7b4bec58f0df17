/* `cfarm simulate`: what the farm's mind would make of so many GPUs and concepts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/str.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"
#include "scheduler/sim.h"

enum { CONCEPTS_MOST = 10000000, GPUS_MOST = 1 << 20 };

typedef struct {
    sim_options how;
    sim_times times;
    const char *machine, *file;
    bool json;
} request;

static const char usage[] =
    "usage: cfarm simulate [--gpus N] [--concepts N] [OPTION...] [--json]\n"
    "  --machine NAME      whose step times are assumed: a100, h200 (the default), l40s; or here: what cfarm calibrate measured\n"
    "  --times FILE        step times of another machine, as JSON: what --json shows under times\n"
    "  --per-node 8        GPUs of a node\n"
    "  --batch 8           samples of a step\n"
    "  --mix M:3,M:1       methods, and how often each comes\n"
    "  --gang-max 8        GPUs for one concept\n"
    "  --pack-max 4        concepts on one GPU\n"
    "  --urgent 0          share of the concepts that are urgent\n"
    "  --owners 1          who share the farm; the first one's weight is 2, the others' 1\n"
    "  --mtbf 0            hours between two faults of one GPU's worker; 0: none\n"
    "  --slow 0            share of the GPUs that are slow\n"
    "  --slow-by 2         times as slow\n"
    "  --preempt 0         minutes between two takings of one node; 0: none\n"
    "  --late 0            share of the nodes that come late\n"
    "  --seed 1            of all that is random\n";

/* Text and numbers beside where they go; least and most of a number. */
typedef struct {
    const char *name;
    const char **text;
    int *count;
    double *real;
    double least, most;
} option;

static int take_number(const option *o, const char *text, err *e)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || !(v >= o->least) || v > o->most)
        return err_set(e, ERR_INPUT, "%s %s: a number from %g to %g", o->name, text, o->least, o->most);
    if (o->count && v != (int)v)
        return err_set(e, ERR_INPUT, "%s %s: a whole number", o->name, text);
    if (o->count)
        *o->count = (int)v;
    else
        *o->real = v;
    return 0;
}

static int take(const option *all, size_t n, const char *word, const char *value, err *e)
{
    const char *names[32] = {0}, *near;

    for (size_t i = 0; i < n; i++) {
        names[i] = all[i].name;
        if (strcmp(all[i].name, word) != 0)
            continue;
        if (!value)
            return err_set(e, ERR_INPUT, "%s: what?", word);
        if (!all[i].text)
            return take_number(&all[i], value, e);
        *all[i].text = value;
        return 0;
    }
    near = str_nearest(word, names);
    return err_set(e, ERR_INPUT, "%s: no such option%s%s", word, near ? "; did you mean " : "", near ? near : "");
}

static int read_options(request *r, int argc, char **argv, err *e)
{
    sim_options *h = &r->how;
    double seed = 1;
    const option all[] = {
        {"--gpus", NULL, &h->gpus, NULL, 1, GPUS_MOST},
        {"--concepts", NULL, &h->concepts, NULL, 1, CONCEPTS_MOST},
        {"--per-node", NULL, &h->per_node, NULL, 1, SLOTS_MOST},
        {"--batch", NULL, &h->batch, NULL, 1, 1024},
        {"--gang-max", NULL, &h->gang_max, NULL, 1, GANG_MOST},
        {"--pack-max", NULL, &h->pack_max, NULL, 1, PACK_MOST},
        {"--owners", NULL, &h->owners, NULL, 1, 1000},
        {"--machine", &r->machine, NULL, NULL, 0, 0},
        {"--times", &r->file, NULL, NULL, 0, 0},
        {"--mix", &h->mix, NULL, NULL, 0, 0},
        {"--urgent", NULL, NULL, &h->urgent, 0, 1},
        {"--mtbf", NULL, NULL, &h->mtbf_hours, 0, 1e9},
        {"--slow", NULL, NULL, &h->slow, 0, 1},
        {"--slow-by", NULL, NULL, &h->slow_by, 1, 1000},
        {"--preempt", NULL, NULL, &h->preempt_minutes, 0, 1e9},
        {"--late", NULL, NULL, &h->late, 0, 1},
        {"--seed", NULL, NULL, &seed, 0, 9007199254740992.0},
    };

    for (int i = 1; i < argc; i += 2)
        TRY(take(all, sizeof all / sizeof *all, argv[i], i + 1 < argc ? argv[i + 1] : NULL, e));
    h->seed = (uint64_t)seed;
    if ((h->batch & (h->batch - 1)) != 0)
        return err_set(e, ERR_INPUT, "--batch %d: a power of two, as gangs halve it", h->batch);
    return 0;
}

/* ---- telling --------------------------------------------------------------------------------------------------- */

static json_t *other_json(const char *name, const sim_other *x, double bound)
{
    return json_pack("{s:s, s:f, s:f, s:f}", "schedule", name, "makespan", x->makespan, "ratio", x->makespan / bound, "mean", x->mean);
}

static json_t *result_json(const request *r, const sim_result *s, const sim_other *fixed, const sim_other *each)
{
    json_t *o = json_pack("{s:s, s:i, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "machine", r->times.machine, "gpus", r->how.gpus,
                          "concepts", r->how.concepts, "seed", (json_int_t)r->how.seed, "bound", s->bound, "makespan", s->makespan,
                          "ratio", s->makespan / s->bound, "mean", s->mean, "busy", s->busy, "useful", s->useful);
    json_t *others = json_array();

    json_object_update_new(o, json_pack("{s:f, s:f}", "bound_there", s->bound_there, "ratio_there", s->makespan / s->bound_there));
    json_object_update_new(o, json_pack("{s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o}", "urgent_mean",
                                        s->urgent_mean, "owner_least", s->owner_least, "done", (json_int_t)s->done, "quarantined",
                                        (json_int_t)s->quarantined, "starts", (json_int_t)s->starts, "failures",
                                        (json_int_t)s->failures, "preemptions", (json_int_t)s->preemptions, "moves",
                                        (json_int_t)s->moves, "events", (json_int_t)s->events, "mind_seconds", s->mind_seconds,
                                        "mind_worst", s->mind_worst, "slot_seconds", waste_json(&s->where)));
    json_array_append_new(others, other_json("fixed gangs", fixed, s->bound));
    json_array_append_new(others, other_json("a process each", each, s->bound));
    json_object_set_new(o, "others", others);
    json_object_set_new(o, "times", sim_times_json(&r->times));
    return o;
}

static void print_row(const char *name, double makespan, double bound, double mean)
{
    printf("  %-34s %12.1f  %6.3f  %12.1f\n", name, makespan, makespan / bound, mean);
}

static void print_result(const request *r, const sim_result *s, const sim_other *fixed, const sim_other *each)
{
    char gangs[64];

    printf("%d concepts on %d GPUs (%s), seed %llu\n", r->how.concepts, r->how.gpus, r->times.machine,
           (unsigned long long)r->how.seed);
    printf("  %-34s %12s  %6s  %12s\n", "", "makespan s", "ratio", "mean s");
    print_row("bound", s->bound, s->bound, 0);
    print_row("bound, by what GPUs were there", s->bound_there, s->bound, 0);
    print_row("the farm", s->makespan, s->bound, s->mean);
    snprintf(gangs, sizeof gangs, "as they come, gangs of %d", r->how.gang_max);
    print_row(gangs, fixed->makespan, s->bound, fixed->mean);
    print_row("as they come, a process each", each->makespan, s->bound, each->mean);
    for (int k = 0; k < WASTES; k++)
        printf("  %-18s %6.2f %%\n", waste_text((waste_kind)k), 100 * waste_share(&s->where, (waste_kind)k));
    printf("  useful %.1f %%, %lld starts, %lld moves, %lld failures, %lld nodes taken", 100 * s->useful, (long long)s->starts,
           (long long)s->moves, (long long)s->failures, (long long)s->preemptions);
    if (s->quarantined > 0)
        printf(", %lld concepts quarantined", (long long)s->quarantined);
    printf("\n  the mind: %lld events, %.2f s in all, %.2f ms at most\n", (long long)s->events, s->mind_seconds,
           1e3 * s->mind_worst);
}

static int read_times(request *r, err *e)
{
    char path[FS_PATH];

    if (r->file)
        return sim_times_read(&r->times, r->file, e);
    if (strcmp(r->machine, "here") != 0)
        return sim_times_assume(&r->times, r->machine, e);
    TRY(sim_times_here(path, e));
    if (!fs_exists(path))
        return err_set(e, ERR_INPUT, "--machine here: nothing is measured here; cfarm calibrate FARM.yaml does it");
    return sim_times_read(&r->times, path, e);
}

static int simulate(request *r, err *e)
{
    sim_concept *work;
    sim_other fixed, each;
    sim_result s;
    int rc;

    TRY(read_times(r, e));
    r->how.times = &r->times;
    if (!r->how.mix)
        r->how.mix = r->times.method[0].name;
    work = sim_concepts(&r->how, e);
    if (!work)
        return ERR_INPUT;
    rc = sim_run(&s, &r->how, work, e);
    if (rc == 0) {
        fixed = sim_in_order(&r->how, work, r->how.gang_max, false);
        each = sim_in_order(&r->how, work, 1, true);
    }
    free(work);
    if (rc == 0 && r->json) {
        json_t *o = result_json(r, &s, &fixed, &each);
        json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
        putchar('\n');
        json_decref(o);
    } else if (rc == 0) {
        print_result(r, &s, &fixed, &each);
    }
    return rc;
}

int command_simulate(int argc, char **argv)
{
    request r = {.machine = "h200", .json = look_json(&argc, argv),
                 .how = {.gpus = 8, .per_node = 8, .concepts = 100, .batch = 8, .gang_max = 8, .pack_max = 4, .owners = 1,
                         .slow_by = 2}};
    err e = {0};

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return FARM_DONE;
    }
    if (read_options(&r, argc, argv, &e) == 0 && simulate(&r, &e) == 0)
        return FARM_DONE;
    fprintf(stderr, "cfarm simulate: %s\n", e.text);
    return FARM_BAD_INPUT; /* there is nothing that could fail but what was given */
}
