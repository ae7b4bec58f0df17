/* Segments on the disk: reading the chain of them, and writing the last. */
#include "scheduler/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fault.h"
#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "scheduler/journal_format.h"

struct journal {
    char *dir, *warning;
    int64_t epoch;         /* of the last segment read or begun */
    uint64_t length;       /* of it: its sound bytes */
    uint32_t crc;          /* of those bytes, as the next segment's head will say */
    size_t records;

    int fd;                /* -1: only read */
    bool dead;
    str pending;
    uint32_t seq;
};

static int segment_path(char out[FS_PATH], const journal *j, int64_t epoch, err *e)
{
    char name[32];

    snprintf(name, sizeof name, "%06lld.log", (long long)epoch);
    return fs_join(out, j->dir, name, e);
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

/* "000007.log" is 7; anything else 0. */
static int64_t epoch_of(const char *name)
{
    char *end;
    long long v = strtoll(name, &end, 10);

    return v > 0 && name[0] >= '0' && name[0] <= '9' && strcmp(end, ".log") == 0 ? v : 0;
}

static int last_epoch(const char *dir, int64_t *out, err *e)
{
    char **names;
    size_t n;

    *out = 0;
    TRY(fs_list(&names, &n, dir, e));
    for (size_t i = 0; i < n; i++)
        if (epoch_of(names[i]) > *out)
            *out = epoch_of(names[i]);
    fs_list_free(names);
    return 0;
}

typedef struct {
    char path[FS_PATH];
    fs_map map;
    segment_head head;
    bool open;             /* the last one: nothing has sealed it */
} segment;

static int segment_open(segment *s, const journal *j, int64_t epoch, err *e)
{
    TRY(segment_path(s->path, j, epoch, e));
    TRY(fs_map_open(&s->map, s->path, e));
    if (segment_get_head(&s->head, s->map.at, s->map.n, e) != 0)
        goto bad;
    if (s->head.epoch == epoch && s->head.prev < epoch && s->head.prev >= 0)
        return 0;
    err_set(e, ERR_IO, "offset 16: epoch %lld after %lld in segment %lld", (long long)s->head.epoch,
            (long long)s->head.prev, (long long)epoch);
bad:
    fs_map_close(&s->map);
    return err_wrap(e, "%s", s->path);
}

/* Where a sealed segment ends its successor knows, and what its bytes were. */
static int check_seal(segment *s, const segment_head *by, err *e)
{
    if (by->prev_length > s->map.n)
        return err_set(e, ERR_IO, "offset %zu: cut short; it had %llu bytes", s->map.n,
                       (unsigned long long)by->prev_length);
    s->map.n = by->prev_length;
    return 0;
}

static int tell_broken(journal *j, const segment *s, size_t at, err *e)
{
    str text = {0};

    if (!s->open || segment_was_durable(s->map.at, s->map.n, at))
        return err_set(e, ERR_IO, "offset %zu: the journal is damaged; restore it from a copy", at);
    str_add(&text, "%s: the last run was cut short; %zu bytes from offset %zu on were never committed and are dropped",
            s->path, s->map.n - at, at);
    free(j->warning);
    j->warning = text.at;
    return 0;
}

static int read_records(journal *j, const segment *s, journal_fn *each, void *arg, err *e)
{
    segment_record r;
    size_t at = JOURNAL_HEAD;

    for (uint32_t seq = 0; at < s->map.n; seq++) {
        if (!segment_get_record(&r, s->map.at + at, s->map.n - at) || r.seq != seq) {
            TRY(tell_broken(j, s, at, e));
            break;
        }
        if (each(arg, r.type, r.body, r.n, e) != 0)
            return err_wrap(e, "offset %zu", at);
        at += JOURNAL_RECORD + r.n;
        j->records++;
    }
    j->length = at;
    j->crc = hash_crc32(0, s->map.at, at);
    return 0;
}

/* The chain, newest first, back to the first segment or to one that restates what was before. */
static int open_chain(journal *j, segment **out, size_t *n, err *e)
{
    segment *chain = NULL;
    int64_t epoch = j->epoch;
    int rc = 0;

    *n = 0;
    while (epoch > 0 && rc == 0) {
        segment *s;
        chain = mem_grow(chain, *n + 1, sizeof *chain);
        s = &chain[*n];
        *s = (segment){.open = *n == 0};
        rc = segment_open(s, j, epoch, e);
        if (rc != 0)
            break;
        ++*n;
        if (*n > 1 && (rc = check_seal(s, &chain[*n - 2].head, e)) != 0)
            err_wrap(e, "%s", s->path);
        epoch = s->head.restated ? 0 : s->head.prev;
    }
    *out = chain;
    return rc;
}

static int read_segment(journal *j, const segment *s, const segment_head *by, journal_fn *each, void *arg, err *e)
{
    if (read_records(j, s, each, arg, e) != 0)
        return err_wrap(e, "%s", s->path);
    if (by && j->crc != by->prev_crc)
        return err_set(e, ERR_IO, "%s: not the bytes that segment %lld sealed; restore it from a copy", s->path,
                       (long long)by->epoch);
    return 0;
}

int journal_open(journal **out, const char *dir, journal_fn *each, void *arg, err *e)
{
    journal *j = NEW(journal);
    segment *chain = NULL;
    size_t n = 0;
    int rc;

    j->fd = -1;
    j->dir = mem_text(dir);
    rc = last_epoch(dir, &j->epoch, e);
    if (rc == 0)
        rc = open_chain(j, &chain, &n, e);
    for (size_t i = n; i > 0 && rc == 0; i--)
        rc = read_segment(j, &chain[i - 1], i > 1 ? &chain[i - 2].head : NULL, each, arg, e);
    for (size_t i = 0; i < n; i++)
        fs_map_close(&chain[i].map);
    free(chain);
    if (rc != 0) {
        journal_close(j);
        j = NULL;
    }
    *out = j;
    return rc;
}

const char *journal_warning(const journal *j) { return j->warning; }
size_t journal_records(const journal *j) { return j->records; }
int64_t journal_epoch(const journal *j) { return j->epoch; }

/* ---- writing -------------------------------------------------------------------------------------------------- */

static int write_all(int fd, const char *at, size_t n)
{
    while (n > 0) {
        ssize_t k = fault_here("journal.write") ? (errno = ENOSPC, -1) : write(fd, at, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        at += k;
        n -= (size_t)k;
    }
    return 0;
}

static int sync_data(int fd) { return fault_here("journal.sync") ? (errno = EIO, -1) : fdatasync(fd); }

static int refuse(const char *path, const char *verb, err *e)
{
    return err_set(e, ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

static int link_new(const char *aside, const char *path, err *e)
{
    if (link(aside, path) == 0)
        return 0;
    if (errno == EEXIST)
        return err_set(e, ERR_PEER, "%s is there already: another coordinator has taken this farm over", path);
    return refuse(path, "link", e);
}

/* The segment appears whole under its name, and only if nobody else made it: link() is both. */
static int create(journal *j, const char *path, const str *bytes, err *e)
{
    char aside[FS_PATH];
    int rc = fs_aside(aside, path, e);

    if (rc == 0 && (j->fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) < 0)
        rc = refuse(path, "write", e);
    if (rc == 0 && (write_all(j->fd, bytes->at, bytes->n) != 0 || sync_data(j->fd) != 0))
        rc = refuse(path, "write", e);
    if (rc == 0)
        rc = link_new(aside, path, e);
    if (j->fd >= 0)
        fs_discard(aside);
    return rc == 0 ? fs_sync_dir(j->dir, e) : rc;
}

/* What was read of the last segment may stand in the system's memory alone: its writer was killed before it had synced. It is
 * on the disk before a seal says that it counts. */
static int sync_last(const journal *j, err *e)
{
    char path[FS_PATH];
    int fd, rc;

    if (j->epoch == 0)
        return 0;
    TRY(segment_path(path, j, j->epoch, e));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return refuse(path, "open", e);
    rc = fdatasync(fd) == 0 ? 0 : refuse(path, "sync", e);
    close(fd);
    return rc;
}

int journal_start(journal *j, int type, const char *restated, size_t n, err *e)
{
    segment_head head = {.restated = restated != NULL, .epoch = j->epoch + 1, .prev = j->epoch,
                         .prev_length = j->length, .prev_crc = j->crc};
    char path[FS_PATH];
    str bytes = {0};
    int rc;

    CHECK(j->fd < 0 && !j->dead);
    segment_put_head(&bytes, &head);
    if (restated)
        segment_put_record(&bytes, type, j->seq++, JOURNAL_HEAD, restated, n);
    rc = sync_last(j, e);
    if (rc == 0)
        rc = segment_path(path, j, head.epoch, e);
    if (rc == 0)
        rc = create(j, path, &bytes, e);
    j->dead = rc != 0;
    j->epoch = head.epoch;
    j->length = bytes.n;
    str_free(&bytes);
    return rc;
}

void journal_append(journal *j, int type, const char *body, size_t n)
{
    CHECK(j->fd >= 0);
    segment_put_record(&j->pending, type, j->seq++, j->length, body, n);
}

/* A coordinator that was only slow, not dead, finds the next epoch begun and has nothing more to say. */
static int check_fence(const journal *j, err *e)
{
    char next[FS_PATH];

    TRY(segment_path(next, j, j->epoch + 1, e));
    if (access(next, F_OK) == 0)
        return err_set(e, ERR_PEER, "epoch %lld has begun: another coordinator has taken this farm over",
                       (long long)j->epoch + 1);
    return 0;
}

static int write_pending(journal *j, err *e)
{
    char path[FS_PATH];

    TRY(segment_path(path, j, j->epoch, e));
    TRY(check_fence(j, e));
    if (write_all(j->fd, j->pending.at, j->pending.n) != 0 || sync_data(j->fd) != 0)
        return refuse(path, "write", e);
    return 0;
}

int journal_commit(journal *j, err *e)
{
    int rc;

    if (j->dead)
        return err_set(e, ERR_IO, "the journal has stopped after an error");
    if (j->pending.n == 0)
        return 0;
    rc = write_pending(j, e);
    j->dead = rc != 0;
    if (rc != 0)
        return rc;
    j->length += j->pending.n;
    j->pending.n = 0;
    return 0;
}

void journal_close(journal *j)
{
    if (!j)
        return;
    if (j->fd >= 0)
        close(j->fd);
    free(j->dir);
    free(j->warning);
    str_free(&j->pending);
    free(j);
}
