/* The fault table: read once from CFARM_FAULT, then one counter per armed point. */
#include "cluster/base/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAULTS_MOST = 16, FAULT_EXIT = 86 };

typedef struct {
    char point[64], what[8];
    long at;
    atomic_long passed;
} fault;

static fault faults[FAULTS_MOST];
static size_t fault_count;
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;
static atomic_int known; /* 0: the variable was not looked at yet; 1: nothing is armed; 2: something is */

/* "point:n" or "point:n:what". A test that misspells its fault would pass without it: stop at once. */
static void arm(const char *spec)
{
    fault *f = &faults[fault_count];
    *f = (fault){.what = "error"};
    int parts = sscanf(spec, "%63[^:]:%ld:%7s", f->point, &f->at, f->what);
    static const char *const known_ways[] = {"error", "kill", "exit", "hang"};
    bool way = false;
    for (size_t i = 0; i < 4; i++)
        way = way || strcmp(f->what, known_ways[i]) == 0;
    if (parts < 2 || f->at < 1 || !way || ++fault_count == FAULTS_MOST) {
        fprintf(stderr, "CFARM_FAULT: '%s' is not point:n[:error|kill|exit|hang], or there are over %d\n", spec,
                FAULTS_MOST - 1);
        abort();
    }
}

static int read_table(void)
{
    pthread_mutex_lock(&reading);
    if (atomic_load(&known) == 0) {
        const char *env = getenv("CFARM_FAULT");
        char *text = strdup(env ? env : ""), *rest = NULL;
        fault_count = 0;
        for (char *s = strtok_r(text, ",", &rest); s; s = strtok_r(NULL, ",", &rest))
            arm(s);
        free(text);
        atomic_store(&known, fault_count > 0 ? 2 : 1);
    }
    pthread_mutex_unlock(&reading);
    return atomic_load(&known);
}

void fault_reread(void)
{
    atomic_store(&known, 0);
}

static bool strike(const fault *f)
{
    if (strcmp(f->what, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(f->what, "exit") == 0)
        _exit(FAULT_EXIT);
    while (strcmp(f->what, "hang") == 0)
        pause();
    return true;
}

bool fault_here(const char *point)
{
    int k = atomic_load_explicit(&known, memory_order_acquire);
    if (k == 1 || (k == 0 && read_table() == 1))
        return false;
    for (size_t i = 0; i < fault_count; i++) {
        fault *f = &faults[i];
        if (strcmp(f->point, point) == 0 && atomic_fetch_add(&f->passed, 1) + 1 == f->at)
            return strike(f);
    }
    return false;
}
