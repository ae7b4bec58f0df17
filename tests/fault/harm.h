#ifndef HARM_H
#define HARM_H
/* The fault harness: one farm after another is disturbed in one way, started again until it is over, and held to the laws.
 * Everything a case does is decided by its seed, but for the moment at which processes meet it. */
#include <stdint.h>

#include "cluster/base/rng.h"
#include "tests/scheduler/farm_kit.h"

typedef struct {
    uint64_t seed;
    rng_stream dice;
    uint64_t drawn;
    bool real;               /* the real worker on the embedded model, not the fake one */
    bool packed;             /* concepts share workers */
    farm f;
    const char *must;        /* a concept that was accepted besides those of the farm file; NULL: none */
    const char *bad;         /* the concept that is expected to be set aside; NULL: none */
    int status;              /* of the last start; -1: never started */
    bool mounted;            /* a disk of its own on the farm's folder */
    int launched;
    pid_t agent[64];         /* every process that was an agent */
} world;

typedef struct {
    const char *name;
    const char *what;        /* it does, in a few words */
    void (*harm)(world *w);  /* begins the farm, disturbs it, and waits for its end */
    bool real;               /* also tried with the real worker */
} harm_kind;
extern const harm_kind harm_kinds[];
extern const int harm_kinds_n;

/* harm.c */
int pick(world *w, int least, int most);               /* by lot */
void nap(world *w, int least_ms, int most_ms);
void put_farm(world *w, const char *concepts);         /* the farm file; NULL: four concepts that do no wrong */
pid_t begin(world *w, const char *workers);            /* cfarm train */
void note_packed(int starts);                          /* counted over all cases */
void await(world *w, pid_t pid);                       /* keeps its status */
void unlike(const world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn)); /* the case has failed */
void skip_case(const world *w, const char *why) __attribute__((noreturn)); /* it cannot be tried here */
/* Children of a process with that name; how many of at most `most`. */
int find_children(pid_t parent, const char *name, pid_t out[], int most);
int list_marked(const world *w, pid_t out[], int most); /* every process of the farm */

/* harm_laws.c -- after the farm is over */
void hold_laws(world *w);
#endif
