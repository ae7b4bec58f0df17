/* Welford's mean and variance of logarithms, and the bounds of list scheduling: W/m <= C <= W/m + (1 - 1/m) longest. */
#include "scheduler/eta.h"

#include <math.h>

static const double NINETY = 1.645;      /* both tails of a normal, 5 of 100 each */
static const double FIRST_SPREAD = 0.35; /* of the logarithm, while too little was seen to tell: a factor of 1.4 */
enum { SPREAD_TRUSTED = 8 };

void eta_learn(eta *t, double slot_seconds, double samples)
{
    double x, d;

    if (!(slot_seconds > 0) || !(samples > 0))
        return;
    x = log(slot_seconds / samples);
    d = x - t->mean;
    t->n++;
    t->mean += d / t->n;
    t->m2 += d * (x - t->mean);
}

double eta_sample(const eta *t) { return t->n > 0 ? exp(t->mean) : 0; }

/* What was seen and a first guess, weighed by how much was seen. */
static double variance(const eta *t)
{
    double guess = FIRST_SPREAD * FIRST_SPREAD;

    return (SPREAD_TRUSTED * guess + t->m2) / (SPREAD_TRUSTED + t->n);
}

bool eta_ask(const eta *t, const eta_work *w, eta_answer *out)
{
    double v = variance(t), mean, sd, area, tail, left = w->concepts > 0 ? w->concepts : 1;

    if (t->n < 1 || w->slots < 1)
        return false;
    mean = exp(t->mean + v / 2); /* of a lognormal */
    sd = sqrt(v / t->n + v / left);
    area = w->samples * mean / w->slots;
    tail = (1 - 1.0 / w->slots) * w->longest * mean;
    out->low = area * exp(-NINETY * sd);
    out->middle = area + tail / 2;
    out->high = (area + tail) * exp(NINETY * sd);
    if (w->longest * mean > out->middle)
        out->middle = w->longest * mean;
    if (out->high < out->middle)
        out->high = out->middle * exp(NINETY * sd);
    return true;
}
