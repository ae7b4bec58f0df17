#ifndef SAMPLER_IMPL_H
#define SAMPLER_IMPL_H
/* What sampler.c and sampler_steps.c share. */
#include "trainer/diffusion/sampler.h"

enum { SAMPLER_HISTORY = 4 };

struct sampler {
    const struct sampler_row *row;
    const schedule *noise;
    int steps, calls, call;            /* call: the next one's number */
    int *timestep;                     /* [calls] */
    double eta;
    size_t count;
    float *past[SAMPLER_HISTORY];      /* earlier model outputs, the newest first */
    int pasts;
    float *kept;                       /* PNDM's x before its first step */
};

typedef struct sampler_row {
    sampler_kind kind;
    schedule_spacing spacing;          /* where the schedule names none */
    bool wants_noise;                  /* or eta > 0 */
    /* Fills t with the timesteps of the calls, at most steps + 1, from noisy to clean; returns how many. */
    int (*times)(const schedule *s, schedule_spacing spacing, int steps, int *t);
    void (*step)(sampler *s, const float *said, const float *noise, float *x);
    sampler_line (*line)(const sampler *s, int call); /* NULL: it is not of that form */
} sampler_row;

extern const sampler_row sampler_rows[]; /* ended by a NULL name */
#endif
