/* The two voices of an event. Each line leaves in one write, so several processes may share one file. */
#include "cluster/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

struct logger {
    FILE *people;
    int json;      /* -1: none */
    bool terminal; /* people is one */
    bool progress; /* a progress line stands there */
    int64_t next;  /* not before this time (clock_ns) may another one be shown */
    pthread_mutex_t lock;
};

static const int64_t PROGRESS_NS = 1000000000 / 6;

int log_open(logger **out, FILE *people, const char *json_path, err *e)
{
    int fd = -1;
    *out = NULL;
    if (json_path) {
        fd = open(json_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (fd < 0)
            return err_set(e, ERR_IO, "%s: cannot open: %s", json_path, fs_reason(errno));
    }
    logger *l = NEW(logger);
    l->people = people;
    l->json = fd;
    l->terminal = people && isatty(fileno(people)) == 1;
    pthread_mutex_init(&l->lock, NULL);
    *out = l;
    return 0;
}

static void wipe(logger *l)
{
    if (l->progress)
        fputs("\r\033[K", l->people);
    l->progress = false;
}

void log_close(logger *l)
{
    if (!l)
        return;
    if (l->people) {
        wipe(l);
        fflush(l->people);
    }
    if (l->json >= 0)
        close(l->json);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* JSON has no NaN or infinity: they become texts. */
static json_t *value_of(const log_pair *p)
{
    switch (p->kind) {
    case LOG_INT: return json_integer(p->i);
    case LOG_REAL: return isfinite(p->f) ? json_real(p->f) : json_string(isnan(p->f) ? "nan" : p->f > 0 ? "inf" : "-inf");
    case LOG_TEXT: break;
    }
    if (!p->s)
        return json_null();
    json_t *v = json_string(p->s);
    return v ? v : json_string("(not UTF-8)");
}

static void tell_program(const logger *l, const char *what, const log_pair *pairs, size_t n)
{
    char when[32];
    clock_iso(when, clock_wall_ms());
    json_t *o = json_pack("{s:s, s:s}", "time", when, "event", what);
    for (size_t i = 0; i < n; i++)
        json_object_set_new(o, pairs[i].key, value_of(&pairs[i]));
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(o);
    str line = {0};
    str_add(&line, "%s\n", text);
    free(text);
    /* A log that cannot be written must not end the training it tells of. */
    ssize_t put = write(l->json, line.at, line.n);
    (void)put;
    str_free(&line);
}

/* One event is one line for people, too: control characters of a text are not let through to the terminal. */
static void add_plain(str *line, const char *s)
{
    for (; *s; s++)
        str_put(line, (unsigned char)*s < ' ' || *s == 127 ? " " : s, 1);
}

static void tell_people(logger *l, const char *what, const log_pair *pairs, size_t n)
{
    char when[32];
    clock_iso(when, clock_wall_ms());
    str line = {0};
    str_add(&line, "%.8s %s", when + 11, what);
    for (size_t i = 0; i < n; i++) {
        str_add(&line, " %s ", pairs[i].key);
        switch (pairs[i].kind) {
        case LOG_INT: str_add(&line, "%lld", pairs[i].i); break;
        case LOG_REAL: str_add(&line, "%.6g", pairs[i].f); break;
        case LOG_TEXT: add_plain(&line, pairs[i].s ? pairs[i].s : "-"); break;
        }
    }
    str_put(&line, "\n", 1);
    wipe(l);
    fwrite(line.at, 1, line.n, l->people);
    fflush(l->people);
    str_free(&line);
}

void log_event_(logger *l, const char *what, const log_pair *pairs, size_t n)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    if (l->people)
        tell_people(l, what, pairs, n);
    if (l->json >= 0)
        tell_program(l, what, pairs, n);
    pthread_mutex_unlock(&l->lock);
}

bool log_progress_due(const logger *l) { return l && l->terminal && clock_ns() >= l->next; }

void log_progress(logger *l, const char *fmt, ...)
{
    if (!l || !l->terminal)
        return;
    pthread_mutex_lock(&l->lock);
    int64_t now = clock_ns();
    if (now >= l->next) {
        va_list args;
        va_start(args, fmt);
        fputs("\r\033[K", l->people);
        vfprintf(l->people, fmt, args);
        fflush(l->people);
        va_end(args);
        l->progress = true;
        l->next = now + PROGRESS_NS;
    }
    pthread_mutex_unlock(&l->lock);
}
