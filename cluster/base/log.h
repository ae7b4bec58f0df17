#ifndef CF_LOG_H
#define CF_LOG_H
/* One call tells one fact twice: a line for a person on stderr, a JSON line for a program (where a file was
 * given). Libraries hold no logger; the programs do. */
#include <stdbool.h>
#include <stdio.h>

#include "cluster/base/err.h"

typedef struct logger logger;
typedef struct {
    const char *key;
    enum { LOG_INT, LOG_REAL, LOG_TEXT } kind;
    long long i;
    double f;
    const char *s;
} log_pair;

#define INT(k, v) ((log_pair){.key = (k), .kind = LOG_INT, .i = (v)})
#define REAL(k, v) ((log_pair){.key = (k), .kind = LOG_REAL, .f = (v)})
#define TEXT(k, v) ((log_pair){.key = (k), .kind = LOG_TEXT, .s = (v)})

/* people: usually stderr, or NULL; json_path: appended to, or NULL. */
int log_open(logger **out, FILE *people, const char *json_path, err *e);
void log_close(logger *l);
/* log_event(l, "step", INT("step", 120), REAL("loss", 0.0831)); l may be NULL: nothing is said. */
#define log_event(l, what, ...)                                                                              \
    log_event_((l), (what), (const log_pair[]){__VA_ARGS__}, sizeof((log_pair[]){__VA_ARGS__}) / sizeof(log_pair))
void log_event_(logger *l, const char *what, const log_pair *pairs, size_t n);
/* A line that overwrites itself; on a terminal only, at most six times a second. */
bool log_progress_due(const logger *l); /* would it show one now? */
void log_progress(logger *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#endif
