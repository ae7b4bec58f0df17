/* Time to measure by, and time to show. */
#include "cluster/base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_clock(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double clock_s(void)
{
    return (double)clock_ns() * 1e-9;
}

int64_t clock_wall_ms(void)
{
    return read_clock(CLOCK_REALTIME) / 1000000;
}

void clock_iso(char out[32], int64_t wall_ms)
{
    int64_t ms = ((wall_ms % 1000) + 1000) % 1000; /* before 1970 the remainder is negative */
    time_t s = (time_t)((wall_ms - ms) / 1000);
    struct tm t;
    char day[24];
    if (!gmtime_r(&s, &t) || strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &t) == 0)
        day[0] = 0;
    snprintf(out, 32, "%s.%03dZ", day, (int)ms);
}
