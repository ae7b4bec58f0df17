#ifndef ETA_H
#define ETA_H
/* How long it will take, with an interval that learns: from what concepts took, not from what they should. Pure.
 *
 * The work that is left is `samples` (steps times batch), of `concepts`, the longest of `longest` samples, on `slots`. A
 * sample's time is lognormal over concepts; the middle estimate is what a list in any order takes on average, the bounds
 * hold 90 of 100 farms (as far as the future is like the past). */
#include <stdbool.h>

typedef struct { double n, mean, m2; } eta; /* of the logarithm of a slot's seconds for one sample; {0}: nothing known */

void eta_learn(eta *t, double slot_seconds, double samples);
double eta_sample(const eta *t); /* seconds; 0: nothing known */

typedef struct { double samples, longest; int concepts, slots; } eta_work;
typedef struct { double low, middle, high; } eta_answer;
/* False while nothing is known, or nobody works. */
bool eta_ask(const eta *t, const eta_work *w, eta_answer *out);
#endif
