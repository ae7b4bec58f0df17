/* The noise schedule and the samplers, on model outputs that are given. A trajectory's name tells sampler and steps
 * ("sched/ddim_10_epsilon"); its config stands in the JSON. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "tests/golden/golden.h"
#include "trainer/diffusion/sampler.h"

/* "sched/ddim_10_epsilon" + "/samples" */
static char *joined(const char *a, const char *b)
{
    str s = {0};

    str_add(&s, "%s%s", a, b);
    return s.at;
}

static bool wants(const golden *g, const char *run, const char *what)
{
    char *name = joined(run, what);
    bool is = golden_wants(g, name);

    free(name);
    return is;
}

static int floats(const golden *g, const char *run, const char *what, float **out, size_t *count, err *e)
{
    char *name = joined(run, what);
    st_tensor s = {0};
    int rc = golden_f32(g, name, out, &s, e);

    *count = s.count;
    free(name);
    return rc;
}

static int name_parts(const char *run, char kind[32], int *steps, err *e)
{
    if (sscanf(run, "sched/%31[a-z0-9+]_%d_", kind, steps) != 2)
        return err_set(e, ERR_INPUT, "%s does not tell a sampler and a number of steps", run);
    return 0;
}

static void put_timesteps(golden *g, const char *run, const sampler *s)
{
    int n = sampler_calls(s);
    int32_t *t = NEW_N(int32_t, n);
    char *name = joined(run, "/timesteps");

    for (int i = 0; i < n; i++)
        t[i] = sampler_timestep(s, i);
    golden_put_i32(g, name, t, (size_t)n);
    free(name);
    free(t);
}

static int walk(golden *g, const char *run, const schedule *noise, err *e)
{
    char kind[32], *name = joined(run, "/samples");
    float *x = NULL, *said = NULL, *fresh = NULL, *samples = NULL;
    size_t count = 0, n_said = 0, n_fresh = 0;
    sampler *s = NULL;
    int steps, rc = name_parts(run, kind, &steps, e);

    if (rc == 0)
        rc = floats(g, run, "/x_T", &x, &count, e);
    if (rc == 0)
        rc = floats(g, run, "/model_outputs", &said, &n_said, e);
    if (rc == 0)
        rc = sampler_new(&s, kind, noise, steps, 0, count, e);
    if (rc == 0 && sampler_wants_noise(s))
        rc = floats(g, run, "/step_noise", &fresh, &n_fresh, e);
    size_t calls = rc == 0 ? (size_t)sampler_calls(s) : 0;
    if (rc == 0 && (n_said != calls * count || (fresh && n_fresh != calls * count)))
        rc = err_set(e, ERR_SHAPE, "%zu model outputs where the sampler makes %zu calls", n_said / count, calls);
    if (rc == 0) {
        samples = NEW_N(float, calls * count);
        for (size_t i = 0; i < calls; i++) {
            sampler_step(s, said + i * count, fresh ? fresh + i * count : NULL, x);
            memcpy(samples + i * count, x, count * sizeof *x);
        }
        golden_put(g, name, samples, calls * count);
        put_timesteps(g, run, s);
    }
    sampler_free(s);
    free(name);
    free(x);
    free(said);
    free(fresh);
    free(samples);
    return rc;
}

static int check_one(golden *g, const char *run, const json_t *config, err *e)
{
    schedule noise;

    TRY(schedule_from(&noise, config, e));
    int rc = walk(g, run, &noise, e);
    schedule_free(&noise);
    return rc;
}

/* betas, and clean samples each with a timestep of its own */
static int check_noise(golden *g, const schedule *s, err *e)
{
    float *x0, *noise = NULL, *out = NULL;
    int32_t *t = NULL;
    st_tensor shape;

    golden_put(g, "sched/betas", s->betas, (size_t)s->steps);
    golden_put(g, "sched/alphas_cumprod", s->acp, (size_t)s->steps);
    if (!golden_wants(g, "sched/add_noise") && !golden_wants(g, "sched/velocity"))
        return 0;
    TRY(golden_f32(g, "sched/x0", &x0, &shape, e));
    int rc = golden_f32(g, "sched/noise", &noise, NULL, e);
    if (rc == 0)
        rc = golden_i32(g, "sched/timesteps", &t, NULL, e);
    if (rc == 0) {
        size_t n = (size_t)shape.d[0], each = shape.count / n;
        out = NEW_N(float, shape.count);
        for (size_t i = 0; i < n; i++)
            schedule_add_noise(s, t[i], x0 + i * each, noise + i * each, out + i * each, each);
        golden_put(g, "sched/add_noise", out, shape.count);
        for (size_t i = 0; i < n; i++)
            schedule_velocity(s, t[i], x0 + i * each, noise + i * each, out + i * each, each);
        golden_put(g, "sched/velocity", out, shape.count);
    }
    free(x0);
    free(noise);
    free(t);
    free(out);
    return rc;
}

int check_sched(golden *g, err *e)
{
    const char *run;
    json_t *config;
    bool first = true;

    json_object_foreach(json_object_get(golden_json(g, GOLDEN_MAIN), "schedulers"), run, config)
    {
        if (!str_starts(run, "sched/"))
            continue;
        if (first && golden_wants_any(g, "sched/")) {
            schedule s;
            TRY(schedule_from(&s, config, e));
            int rc = check_noise(g, &s, e);
            schedule_free(&s);
            TRY(rc);
        }
        first = false;
        if ((wants(g, run, "/samples") || wants(g, run, "/timesteps")) && check_one(g, run, config, e) != 0)
            return err_wrap(e, "%s", run);
    }
    return 0;
}
