#ifndef CF_CLOCK_H
#define CF_CLOCK_H
#include <stdint.h>

int64_t clock_ns(void);                 /* monotonic: for durations and deadlines */
double clock_s(void);                   /* the same in seconds */
int64_t clock_wall_ms(void);            /* since 1970, for people and file names; may jump */
void clock_iso(char out[32], int64_t wall_ms); /* "2026-11-22T21:04:05.123Z" */
#endif
