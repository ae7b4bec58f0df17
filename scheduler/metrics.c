/* `cfarm metrics`: a farm's numbers as OpenMetrics text, to be scraped from a file by node_exporter's textfile collector, or
 * sent on. What is told is what status.json holds; the farm is not touched. */
#include <stdio.h>
#include <string.h>

#include "cluster/base/str.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/look.h"
#include "scheduler/waste.h"

/* In a label a backslash, a quote and a new line are written with a backslash. */
static void put_label(str *to, const char *key, const char *text)
{
    str_add(to, "%s=\"", key);
    for (const char *at = text ? text : ""; *at; at++)
        if (*at == '\n')
            str_add(to, "\\n");
        else
            str_add(to, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
    str_add(to, "\"");
}

/* unit: the last word of the name, or NULL. */
static void put_head(str *to, const char *name, const char *type, const char *unit, const char *help)
{
    str_add(to, "# TYPE %s %s\n", name, type);
    if (unit)
        str_add(to, "# UNIT %s %s\n", name, unit);
    str_add(to, "# HELP %s %s\n", name, help);
}

static void put_sample(str *to, const char *name, const char *farm, const char *key, const char *label, double v)
{
    str_add(to, "%s{", name);
    put_label(to, "farm", farm);
    if (key) {
        str_add(to, ",");
        put_label(to, key, label);
    }
    str_add(to, "} %.10g\n", v);
}

static void put_one(str *to, const json_t *o, const char *key, const char *farm, const char *name, const char *unit, const char *help)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_number(v))
        return;
    put_head(to, name, "gauge", unit, help);
    put_sample(to, name, farm, NULL, NULL, json_number_value(v));
}

static void put_jobs(str *to, const json_t *o, const char *farm)
{
    const json_t *count = json_object_get(o, "count");

    put_head(to, "cfarm_jobs", "gauge", NULL, "Concepts and merges by state.");
    for (int k = 0; k < JOB_STATES; k++)
        put_sample(to, "cfarm_jobs", farm, "state", job_state_name((job_state)k),
                   json_number_value(json_object_get(count, job_state_name((job_state)k))));
}

static void put_slot_seconds(str *to, const json_t *o, const char *farm)
{
    const json_t *seconds = json_object_get(o, "slot_seconds");

    put_head(to, "cfarm_slot_seconds", "counter", "seconds", "Where the time of the slots went; the uses add up to the whole.");
    for (int k = 0; k < WASTES; k++)
        put_sample(to, "cfarm_slot_seconds_total", farm, "use", waste_word((waste_kind)k),
                   json_number_value(json_object_get(seconds, waste_word((waste_kind)k))));
}

static void put_nodes(str *to, const json_t *o, const char *farm)
{
    static const char *const state[] = {"busy", "ready", "warming", "down"};
    const json_t *nodes = json_object_get(o, "nodes"), *v;
    size_t i;

    put_head(to, "cfarm_slots", "gauge", NULL, "Slots of a node by state.");
    json_array_foreach(nodes, i, v)
        for (size_t k = 0; k < sizeof state / sizeof *state; k++) {
            str_add(to, "cfarm_slots{");
            put_label(to, "farm", farm);
            str_add(to, ",");
            put_label(to, "node", json_string_value(json_object_get(v, "name")));
            str_add(to, ",state=\"%s\"} %.10g\n", state[k], json_number_value(json_object_get(v, state[k])));
        }
}

static void put_all(str *to, const json_t *o, bool alive)
{
    const char *farm = json_string_value(json_object_get(o, "farm"));

    put_head(to, "cfarm_up", "gauge", NULL, "1 while the farm runs.");
    put_sample(to, "cfarm_up", farm, NULL, NULL, alive);
    put_one(to, o, "epoch", farm, "cfarm_epoch", NULL, "How often the farm has begun.");
    put_jobs(to, o, farm);
    put_one(to, o, "samples_per_second", farm, "cfarm_samples_per_second", NULL, "Steps times batch in a second, lately.");
    put_one(to, o, "seconds_left", farm, "cfarm_left_seconds", "seconds", "Until all is done, as foreseen.");
    put_slot_seconds(to, o, farm);
    put_nodes(to, o, farm);
    str_add(to, "# EOF\n");
}

static int metrics(const char *arg, const char *out, err *e)
{
    char dir[FS_PATH], path[FS_PATH];
    json_t *o = NULL;
    str text = {0};
    int rc;

    TRY(look_folder(dir, arg, e));
    TRY(fs_join(path, dir, "status.json", e));
    TRY(json_read(&o, path, e));
    put_all(&text, o, ledger_busy(dir));
    json_decref(o);
    rc = out ? fs_write(out, text.at, text.n, e) : 0;
    if (!out && fwrite(text.at, 1, text.n, stdout) != text.n)
        rc = err_set(e, ERR_IO, "the metrics cannot be written");
    str_free(&text);
    return rc;
}

int command_metrics(int argc, char **argv)
{
    bool to_file = argc == 4 && strcmp(argv[2], "--out") == 0;
    err e = {0};

    if ((argc != 2 && !to_file) || argv[1][0] == '-') {
        fputs("usage: cfarm metrics FARM [--out FILE.prom]      FILE appears whole, for node_exporter's textfile collector\n", stderr);
        return FARM_BAD_INPUT;
    }
    return metrics(argv[1], to_file ? argv[3] : NULL, &e) == 0 ? FARM_DONE : look_complain(&e);
}
