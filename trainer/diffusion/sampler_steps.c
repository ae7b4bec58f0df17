/* The arithmetic of every sampler: its timesteps and one step. In what follows a is acp, alpha its root, sigma the root
 * of 1 - a; prev is the timestep a step goes to. Coefficients are worked out in f64, once a step. */
#include <math.h>
#include <string.h>

#include "trainer/diffusion/sampler_impl.h"

/* ---- timesteps ---- */

static void reverse(int *t, int n)
{
    for (int i = 0; i < n / 2; i++) {
        int swap = t[i];
        t[i] = t[n - 1 - i];
        t[n - 1 - i] = swap;
    }
}

/* Ascending; rounding is to nearest, ties to even, as in numpy. */
static void spaced(const schedule *s, schedule_spacing spacing, int n, int *t)
{
    double all = s->steps;

    for (int i = 0; i < n; i++) {
        if (spacing == SPACING_LINSPACE)
            t[i] = (int)rint(n > 1 ? (all - 1) * i / (n - 1) : 0);
        else if (spacing == SPACING_TRAILING)
            t[i] = (int)rint(all - (n - 1 - i) * (all / n)) - 1;
        else
            t[i] = i * (s->steps / n) + s->steps_offset;
    }
}

static int times_plain(const schedule *s, schedule_spacing spacing, int steps, int *t)
{
    spaced(s, spacing, steps, t);
    reverse(t, steps);
    return steps;
}

/* The second timestep comes twice: its first visit only bends the first step (Heun), without Runge-Kutta. */
static int times_pndm(const schedule *s, schedule_spacing spacing, int steps, int *t)
{
    spaced(s, spacing, steps, t);
    reverse(t, steps);
    if (steps < 2)
        return steps;
    memmove(t + 2, t + 1, (size_t)(steps - 1) * sizeof *t);
    return steps + 1;
}

/* Where the last step ends (timestep 0) counts as a point: n + 1 of them, and no timestep twice. */
static int times_dpm(const schedule *s, schedule_spacing spacing, int steps, int *t)
{
    int n = 0;

    if (spacing == SPACING_TRAILING) {
        spaced(s, spacing, steps, t);
        reverse(t, steps);
    } else {
        for (int i = 0; i < steps; i++) {
            int at = steps - i; /* of 0..steps */
            t[i] = spacing == SPACING_LINSPACE ? (int)rint((s->steps - 1.0) * at / steps)
                                               : at * (s->steps / (steps + 1)) + s->steps_offset;
        }
    }
    for (int i = 0; i < steps; i++)
        if (n == 0 || t[i] != t[n - 1])
            t[n++] = t[i];
    return n;
}

/* ---- what the steps share ---- */

static double acp_before(const schedule *s, int prev)
{
    if (prev >= 0)
        return s->acp[prev];
    return s->set_alpha_to_one ? 1 : s->acp[0];
}

/* The clean sample and the noise that the model's output means at x, as two pairs of factors. */
typedef struct { double x0_x, x0_said, eps_x, eps_said; } meaning;

static meaning meaning_of(const schedule *s, double a)
{
    double alpha = sqrt(a), sigma = sqrt(1 - a);

    if (s->prediction == PREDICT_V)
        return (meaning){alpha, -sigma, sigma, alpha};
    return (meaning){1 / alpha, -sigma / alpha, 0, 1};
}

/* Takes a new model output into the history; [0] is then the newest. */
static void remember(sampler *s, const float *said)
{
    float *oldest = s->past[SAMPLER_HISTORY - 1];

    memmove(s->past + 1, s->past, (SAMPLER_HISTORY - 1) * sizeof *s->past);
    s->past[0] = oldest;
    memcpy(oldest, said, s->count * sizeof *said);
    s->pasts += s->pasts < SAMPLER_HISTORY;
}

/* ---- DDIM: Song, Meng, Ermon 2021, equations 12 and 16 ---- */

/* One call: x <- keep x0 + turn eps + sigma z. */
typedef struct { double keep, turn, sigma; } ddim_call;

static ddim_call ddim_call_of(const sampler *s, int i)
{
    int t = s->timestep[i], prev = t - s->noise->steps / s->steps;
    double a = s->noise->acp[t], a_prev = acp_before(s->noise, prev);
    double sigma = s->eta * sqrt((1 - a_prev) / (1 - a) * (1 - a / a_prev));

    return (ddim_call){sqrt(a_prev), sqrt(fmax(1 - a_prev - sigma * sigma, 0)), sigma};
}

static void step_ddim(sampler *s, const float *said, const float *noise, float *x)
{
    ddim_call c = ddim_call_of(s, s->call);
    meaning m = meaning_of(s->noise, s->noise->acp[s->timestep[s->call]]);
    double by_x = c.keep * m.x0_x + c.turn * m.eps_x, by_said = c.keep * m.x0_said + c.turn * m.eps_said;

    for (size_t i = 0; i < s->count; i++)
        x[i] = (float)(by_x * x[i] + by_said * said[i] + (noise ? c.sigma * noise[i] : 0));
}

static sampler_line line_ddim(const sampler *s, int call)
{
    ddim_call c = ddim_call_of(s, call);
    meaning m = meaning_of(s->noise, s->noise->acp[s->timestep[call]]);

    return (sampler_line){m.x0_x, m.x0_said, c.keep * m.x0_x + c.turn * m.eps_x, c.keep * m.x0_said + c.turn * m.eps_said,
                          0, c.sigma};
}

/* ---- DDPM: Ho, Jain, Abbeel 2020, equations 6 and 7, the smaller of the two variances ---- */

static sampler_line line_ddpm(const sampler *s, int call)
{
    int t = s->timestep[call], prev = t - s->noise->steps / s->steps;
    double a = s->noise->acp[t], a_prev = prev >= 0 ? s->noise->acp[prev] : 1, step = a / a_prev;
    double of_x0 = sqrt(a_prev) * (1 - step) / (1 - a), of_x = sqrt(step) * (1 - a_prev) / (1 - a);
    double sigma = t > 0 ? sqrt(fmax((1 - a_prev) / (1 - a) * (1 - step), 1e-20)) : 0;
    meaning m = meaning_of(s->noise, a);

    return (sampler_line){m.x0_x, m.x0_said, of_x0 * m.x0_x + of_x, of_x0 * m.x0_said, 0, sigma};
}

static void step_ddpm(sampler *s, const float *said, const float *noise, float *x)
{
    sampler_line c = line_ddpm(s, s->call);

    for (size_t i = 0; i < s->count; i++)
        x[i] = (float)(c.by_x * x[i] + c.by_said * said[i] + c.by_noise * noise[i]);
}

/* ---- PNDM without Runge-Kutta: Liu, Ren, Lin, Zhao 2022, equations 11 and 12 (linear multi-step) ---- */

/* Adams-Bashforth weights for a history of 1 to 4; the row for two outputs at the second call is Heun's mean. */
static const double ADAMS[5][SAMPLER_HISTORY] = {
    [1] = {1},
    [2] = {3.0 / 2, -1.0 / 2},
    [3] = {23.0 / 12, -16.0 / 12, 5.0 / 12},
    [4] = {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
};
static const double HEUN[SAMPLER_HISTORY] = {1.0 / 2, 1.0 / 2};

/* The second call's output is not remembered: it lies at the timestep that comes again next. */
static void step_pndm(sampler *s, const float *said, const float *noise, float *x)
{
    int stride = s->noise->steps / s->steps, t = s->timestep[s->call], prev = t - stride;
    const double *weight = HEUN;

    (void)noise;
    if (s->call == 1) {
        prev = t;
        t += stride;
        memcpy(x, s->kept, s->count * sizeof *x);
    } else {
        if (s->call == 0)
            memcpy(s->kept, x, s->count * sizeof *x);
        remember(s, said);
        weight = ADAMS[s->pasts];
    }
    const float *past[SAMPLER_HISTORY] = {s->past[0], s->past[1], s->past[2], s->past[3]};
    if (s->call == 1)
        past[0] = said, past[1] = s->past[0];

    double a = s->noise->acp[t], a_prev = acp_before(s->noise, prev);
    double by_x = sqrt(a_prev / a), by_eps = -(a_prev - a) / (a * sqrt(1 - a_prev) + sqrt(a * (1 - a) * a_prev));
    meaning m = meaning_of(s->noise, a);
    for (size_t i = 0; i < s->count; i++) {
        double blend = 0;
        for (int k = 0; k < SAMPLER_HISTORY; k++)
            blend += weight[k] * past[k][i];
        x[i] = (float)(by_x * x[i] + by_eps * (m.eps_x * x[i] + m.eps_said * blend));
    }
}

/* ---- DPM-Solver++(2M), midpoint: Lu et al. 2022, algorithm 2 ---- */

typedef struct { double alpha, sigma, lambda; } dpm_point;

static dpm_point dpm_at(const schedule *s, int t)
{
    double alpha = sqrt(s->acp[t]), sigma = sqrt(1 - s->acp[t]);

    return (dpm_point){alpha, sigma, log(alpha) - log(sigma)};
}

/* One call: x <- keep x + take (x0 + bend (x0 - x0 before)). The last goes to timestep 0, and is of first order where steps
 * are few. */
typedef struct { double keep, take, bend; } dpm_call;

static dpm_call dpm_call_of(const sampler *s, int i)
{
    enum { FEW = 15 };
    int last = s->calls - 1;
    dpm_point now = dpm_at(s->noise, s->timestep[i]), next = dpm_at(s->noise, i == last ? 0 : s->timestep[i + 1]);
    double h = next.lambda - now.lambda;
    dpm_call c = {.keep = next.sigma / now.sigma, .take = -next.alpha * expm1(-h)};

    if (i > 0 && !(i == last && s->calls < FEW))
        c.bend = 0.5 * h / (now.lambda - dpm_at(s->noise, s->timestep[i - 1]).lambda); /* 1 / (2 r0) */
    return c;
}

/* The history holds clean samples. */
static void step_dpmpp2m(sampler *s, const float *said, const float *noise, float *x)
{
    dpm_call c = dpm_call_of(s, s->call);
    meaning m = meaning_of(s->noise, s->noise->acp[s->timestep[s->call]]);

    (void)noise;
    remember(s, said);
    for (size_t k = 0; k < s->count; k++)
        s->past[0][k] = (float)(m.x0_x * x[k] + m.x0_said * said[k]);
    for (size_t k = 0; k < s->count; k++) {
        double x0 = s->past[0][k], before = s->past[1][k];
        x[k] = (float)(c.keep * x[k] + c.take * (x0 + c.bend * (x0 - before)));
    }
}

static sampler_line line_dpmpp2m(const sampler *s, int call)
{
    dpm_call c = dpm_call_of(s, call);
    meaning m = meaning_of(s->noise, s->noise->acp[s->timestep[call]]);
    double now = c.take * (1 + c.bend);

    return (sampler_line){m.x0_x, m.x0_said, c.keep + now * m.x0_x, now * m.x0_said, -c.take * c.bend, 0};
}

const sampler_row sampler_rows[] = {
    {{"ddim", "Song et al. 2021: few steps, the same noise gives the same picture; eta adds fresh noise"},
     SPACING_LEADING, false, times_plain, step_ddim, line_ddim},
    {{"ddpm", "Ho et al. 2020: fresh noise at every step; wants many steps"}, SPACING_LEADING, true, times_plain, step_ddpm, line_ddpm},
    {{"pndm", "Liu et al. 2022: linear multi-step, one call more than steps"}, SPACING_LEADING, false, times_pndm, step_pndm, NULL},
    {{"dpmpp2m", "Lu et al. 2022, DPM-Solver++(2M): second order, good from 20 steps on"}, SPACING_LINSPACE, false, times_dpm,
     step_dpmpp2m, line_dpmpp2m},
    {{NULL, NULL}, SPACING_DEFAULT, false, NULL, NULL, NULL},
};
