/* A sampler's life around its arithmetic: looking it up, its memory, the order of calls. */
#include "trainer/diffusion/sampler.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/diffusion/sampler_impl.h"

static const sampler_row *find(const char *name)
{
    for (const sampler_row *r = sampler_rows; r->kind.name; r++)
        if (strcmp(r->kind.name, name) == 0)
            return r;
    return NULL;
}

const char *sampler_names(char out[SAMPLER_NAMES])
{
    str all = {0};

    for (const sampler_row *r = sampler_rows; r->kind.name; r++)
        str_add(&all, "%s%s", all.n ? ", " : "", r->kind.name);
    str_copy(out, SAMPLER_NAMES, all.at);
    str_free(&all);
    return out;
}

const sampler_kind *sampler_kind_at(size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (!sampler_rows[k].kind.name)
            return NULL;
    return sampler_rows[i].kind.name ? &sampler_rows[i].kind : NULL;
}

static int check(const sampler_row *row, const char *name, const schedule *noise, int steps, double eta, err *e)
{
    char all[SAMPLER_NAMES];

    if (!row)
        return err_set(e, ERR_INPUT, "no sampler %s (there are %s)", name, sampler_names(all));
    if (steps < 1 || steps > noise->steps)
        return err_set(e, ERR_INPUT, "%d steps where 1 to %d are possible", steps, noise->steps);
    if (!(eta >= 0 && eta <= 1))
        return err_set(e, ERR_INPUT, "eta %g where 0 to 1 is possible", eta);
    return 0;
}

int sampler_new(sampler **out, const char *name, const schedule *noise, int steps, double eta, size_t count, err *e)
{
    const sampler_row *row = find(name);

    TRY(check(row, name, noise, steps, eta, e));
    sampler *s = NEW(sampler);
    *s = (sampler){.row = row, .noise = noise, .steps = steps, .eta = eta, .count = count};
    s->timestep = NEW_N(int, steps + 1);
    s->calls = row->times(noise, noise->spacing == SPACING_DEFAULT ? row->spacing : noise->spacing, steps, s->timestep);
    for (int i = 0; i < s->calls; i++)
        if (s->timestep[i] < 0 || s->timestep[i] >= noise->steps) {
            int t = s->timestep[i];
            sampler_free(s);
            return err_set(e, ERR_INPUT, "%s with %d steps asks for timestep %d of %d; fewer steps fit", name, steps, t,
                           noise->steps);
        }
    for (int i = 0; i < SAMPLER_HISTORY; i++)
        s->past[i] = NEW_N(float, count);
    s->kept = NEW_N(float, count);
    *out = s;
    return 0;
}

void sampler_free(sampler *s)
{
    if (!s)
        return;
    for (int i = 0; i < SAMPLER_HISTORY; i++)
        free(s->past[i]);
    free(s->kept);
    free(s->timestep);
    free(s);
}

int sampler_calls(const sampler *s)
{
    return s->calls;
}

int sampler_timestep(const sampler *s, int call)
{
    CHECK(call >= 0 && call < s->calls);
    return s->timestep[call];
}

bool sampler_wants_noise(const sampler *s)
{
    return s->row->wants_noise || s->eta > 0;
}

bool sampler_line_at(const sampler *s, int call, sampler_line *out)
{
    CHECK(call >= 0 && call < s->calls);
    if (!s->row->line)
        return false;
    *out = s->row->line(s, call);
    return true;
}

void sampler_step(sampler *s, const float *said, const float *noise, float *x)
{
    CHECK(s->call < s->calls);
    s->row->step(s, said, noise, x);
    s->call++;
}
