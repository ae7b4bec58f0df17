#ifndef FORECAST_H
#define FORECAST_H
/* What of a farm will be done before its time limit: a list of concepts dealt out to slots as the farm deals them, urgent ones
 * first, then shorter ones, each to the slot that is free first. No gangs: they end sooner, and this is what can be counted
 * on. Pure. */
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *name;
    int priority;           /* smaller: earlier */
    double samples;         /* steps times batch that are left */
    bool fits;              /* the answer */
} forecast_work;

/* seconds: that may be used; sample: those of a slot for one. Sorts work. How many fit. */
size_t forecast(forecast_work *work, size_t n, int slots, double seconds, double sample);
#endif
