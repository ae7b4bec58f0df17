/* The assumed machines: facts of one GPU generation beside another, until somebody measures. */
#include "scheduler/sim_times.h"

#include <math.h>
#include <string.h>

#include "cluster/base/str.h"

/* Seconds, of Custom Diffusion at SD 1.5's shape and 512 pixels; share: 76 MB between GPUs of a node. */
typedef struct { const char *name; double fixed, sample, member, hop, share; } machine_row;
static const machine_row machine[] = {
    {"a100", 0.015, 0.022, 0.0015, 0.0001, 0.0006},
    {"h200", 0.010, 0.009, 0.0008, 0.00005, 0.0003},
    {"l40s", 0.015, 0.030, 0.0020, 0.0002, 0.0030},
};

/* Beside Custom Diffusion: the time of a step, the bytes of its gradient. Times of the first three as measured on a CPU
 * (tests/bench/methods.csv); that of DreamBooth, which nobody has timed yet, is a guess. */
typedef struct { const char *name; double time, bytes; } method_row;
static const method_row method[] = {
    {"custom-diffusion", 1, 1},
    {"lora", 1, 0.042},
    {"textual-inversion", 0.98, 0.00004},
    {"dreambooth", 1.5, 44.8},
};

int sim_times_assume(sim_times *t, const char *name, err *e)
{
    const machine_row *m = NULL;

    for (size_t i = 0; i < sizeof machine / sizeof *machine; i++)
        if (strcmp(machine[i].name, name) == 0)
            m = &machine[i];
    if (!m)
        return err_set(e, ERR_INPUT, "%s: no machine whose times are assumed; a100, h200 and l40s are, --times FILE gives others",
                       name);
    *t = (sim_times){.start = 9, .load = 1.5, .resize = 0.7, .publish = 0.4, .checkpoint = 0.0003, .every = 5};
    snprintf(t->machine, sizeof t->machine, "%s, assumed", name);
    for (size_t i = 0; i < sizeof method / sizeof *method; i++) {
        sim_method *to = &t->method[t->methods++];
        *to = (sim_method){.fixed = m->fixed * method[i].time, .sample = m->sample * method[i].time, .member = m->member,
                           .hop = m->hop, .share = m->share * method[i].bytes};
        str_copy(to->name, sizeof to->name, method[i].name);
    }
    return 0;
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

typedef struct { const char *key; size_t at; } field;
#define TIMES_FIELD(f) {#f, offsetof(sim_times, f)}
#define METHOD_FIELD(f) {#f, offsetof(sim_method, f)}
static const field times_field[] = {TIMES_FIELD(start), TIMES_FIELD(load), TIMES_FIELD(resize), TIMES_FIELD(publish),
                                    TIMES_FIELD(checkpoint), TIMES_FIELD(every)};
static const field method_field[] = {METHOD_FIELD(fixed), METHOD_FIELD(sample), METHOD_FIELD(member), METHOD_FIELD(hop),
                                     METHOD_FIELD(share)};

static int get(const json_t *o, void *to, const field *f, size_t n, err *e)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        TRY(json_get_real(o, f[i].key, &v, e));
        if (!(v >= 0) || !isfinite(v))
            return err_set(e, ERR_INPUT, "%s: %g is no time", f[i].key, v);
        memcpy((char *)to + f[i].at, &v, sizeof v);
    }
    return 0;
}

static void put(json_t *o, const void *from, const field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, (const char *)from + f[i].at, sizeof v);
        json_object_set_new(o, f[i].key, json_real(v));
    }
}

static int read_methods(sim_times *t, json_t *all, err *e)
{
    const char *name;
    json_t *o;

    json_object_foreach(all, name, o)
    {
        sim_method *m = &t->method[t->methods];
        if (t->methods == SIM_METHODS || !str_copy(m->name, sizeof m->name, name))
            return err_set(e, ERR_INPUT, "methods: more than %d, or a name too long", SIM_METHODS);
        if (get(o, m, method_field, sizeof method_field / sizeof *method_field, e) != 0)
            return err_wrap(e, "%s", name);
        if (!(m->fixed + m->sample > 0))
            return err_set(e, ERR_INPUT, "%s: a step that takes no time", name);
        t->methods++;
    }
    return t->methods > 0 ? 0 : err_set(e, ERR_INPUT, "methods: none");
}

int sim_times_read(sim_times *t, const char *path, err *e)
{
    json_t *o = NULL;
    const char *name, *base = "";
    int rc;

    *t = (sim_times){0};
    TRY(json_read(&o, path, e));
    rc = json_opt_text(o, "machine", "", &name, e);
    if (rc == 0)
        rc = json_opt_text(o, "base", "", &base, e);
    if (rc == 0)
        rc = get(o, t, times_field, sizeof times_field / sizeof *times_field, e);
    if (rc == 0) {
        str_copy(t->machine, sizeof t->machine, name);
        str_copy(t->base, sizeof t->base, base);
        rc = read_methods(t, json_object_get(o, "methods"), e);
    }
    json_decref(o);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

int sim_times_here(char path[FS_PATH], err *e)
{
    char dir[FS_PATH];

    TRY(fs_cache_dir(dir, e));
    return fs_join(path, dir, "times.json", e);
}

json_t *sim_times_json(const sim_times *t)
{
    json_t *o = json_pack("{s:s}", "machine", t->machine), *all = json_object();

    put(o, t, times_field, sizeof times_field / sizeof *times_field);
    for (int i = 0; i < t->methods; i++) {
        json_t *m = json_object();
        put(m, &t->method[i], method_field, sizeof method_field / sizeof *method_field);
        json_object_set_new(all, t->method[i].name, m);
    }
    json_object_set_new(o, "methods", all);
    return o;
}

const sim_method *sim_find(const sim_times *t, const char *name)
{
    for (int i = 0; i < t->methods; i++)
        if (strcmp(t->method[i].name, name) == 0)
            return &t->method[i];
    return NULL;
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

double sim_reduce(const sim_method *m, int gang)
{
    return gang > 1 ? m->hop * log2(gang) + m->share * 2 * (gang - 1) / gang : 0;
}

double sim_step(const sim_method *m, double batch, int gang)
{
    return m->fixed + m->sample * batch / gang + sim_reduce(m, gang);
}
