#ifndef SCHEDULE_H
#define SCHEDULE_H
/* How much noise each training timestep carries (Ho, Jain, Abbeel 2020), as a model's scheduler_config.json says it:
 *   x_t = alpha_t x_0 + sigma_t noise,   alpha_t = sqrt(acp[t]),   sigma_t = sqrt(1 - acp[t]),
 * and what the model predicts: the noise, or the velocity alpha_t noise - sigma_t x_0 (Salimans, Ho 2022). */
#include <stdbool.h>
#include <stddef.h>

#include "cluster/base/json.h"

typedef enum { PREDICT_EPSILON, PREDICT_V } schedule_prediction;
typedef enum { SPACING_DEFAULT, SPACING_LEADING, SPACING_LINSPACE, SPACING_TRAILING } schedule_spacing;

typedef struct {
    int steps;                      /* training timesteps, usually 1000 */
    float *betas, *acp;             /* [steps]; acp: running product of 1 - beta, kept in f32 as diffusers keeps it */
    schedule_prediction prediction;
    schedule_spacing spacing;       /* of a sampler's timesteps; DEFAULT: each sampler's own */
    int steps_offset;
    bool set_alpha_to_one;          /* before the first timestep acp is 1, else acp[0] */
} schedule;

/* config: scheduler_config.json. ERR_INPUT names the key whose value is not built. */
int schedule_from(schedule *out, const json_t *config, err *e);
void schedule_free(schedule *s);

/* t in 0..steps-1. */
float schedule_alpha(const schedule *s, int t);
float schedule_sigma(const schedule *s, int t);
/* count elements of one sample. */
void schedule_add_noise(const schedule *s, int t, const float *x0, const float *noise, float *out, size_t count);
void schedule_velocity(const schedule *s, int t, const float *x0, const float *noise, float *out, size_t count);
/* What the model shall say: the noise or the velocity. */
void schedule_target(const schedule *s, int t, const float *x0, const float *noise, float *out, size_t count);
#endif
