#ifndef SAMPLER_H
#define SAMPLER_H
/* From noise to a picture's latents, one call of the model after another. A sampler is arithmetic on host arrays: it
 * knows neither the model nor where noise comes from. Timesteps and steps are those of diffusers 0.21.
 *
 *   sampler_new(&s, "ddim", noise, 50, 0.0, count, e);
 *   for (int i = 0; i < sampler_calls(s); i++)
 *       sampler_step(s, model(x, sampler_timestep(s, i)), sampler_wants_noise(s) ? noise : NULL, x); */
#include "trainer/diffusion/schedule.h"

typedef struct sampler sampler;
typedef struct {
    const char *name;    /* as in --sampler */
    const char *help;    /* one sentence with its source */
} sampler_kind;

/* Every sampler there is; NULL past the end. */
const sampler_kind *sampler_kind_at(size_t i);
enum { SAMPLER_NAMES = 160 };
const char *sampler_names(char out[SAMPLER_NAMES]); /* "ddim, ddpm, ..." for a sentence */

/* steps: 1..noise->steps; eta: DDIM's share of fresh noise, 0..1, others ignore it; count: elements of x.
 * The schedule is borrowed and must outlive the sampler. */
int sampler_new(sampler **out, const char *name, const schedule *noise, int steps, double eta, size_t count, err *e);
void sampler_free(sampler *s);
int sampler_calls(const sampler *s);              /* of the model; PNDM makes one more than steps */
int sampler_timestep(const sampler *s, int call);
bool sampler_wants_noise(const sampler *s);
/* What a call does, as numbers, for whoever does it elsewhere (on a device): x0 = x0_x x + x0_said said, and x becomes
 * by_x x + by_said said + by_before b + by_noise z, b the x0 of the call before, z fresh noise where it is wanted. false: the
 * sampler wants more of the past. */
typedef struct { double x0_x, x0_said, by_x, by_said, by_before, by_noise; } sampler_line;
bool sampler_line_at(const sampler *s, int call, sampler_line *out);
/* x [count] moves from this call's timestep to the next. said: the model's output at x. noise: N(0,1) [count] where
 * it is wanted, else NULL. Calls are made in order. */
void sampler_step(sampler *s, const float *said, const float *noise, float *x);
#endif
