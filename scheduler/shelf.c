/* Checkpoints. Two memory files a training, the agent's own, so that they outlive the workers that write them; and two
 * files in FARM/ckpt/NAME, written by a child in turn, so that a slow disk never keeps the agent from its workers. What
 * is in them is the workers' affair (worker.h, rule 9). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/fault.h"
#include "cluster/base/mem.h"
#include "scheduler/agent_impl.h"
#include "scheduler/link.h"

enum { SPARE = 8 }; /* shelves beyond those in use: of trainings that went elsewhere */

static int path_of(char out[FS_PATH], const agent *a, const char *name, int place)
{
    int n = place < 0 ? snprintf(out, FS_PATH, "%s/ckpt/%s", a->farm, name)
                      : snprintf(out, FS_PATH, "%s/ckpt/%s/%d", a->farm, name, place);

    return n < FS_PATH ? 0 : -1;
}

static void shelf_free(shelf *h)
{
    for (int i = 0; i < 2; i++)
        if (h->fd[i] >= 0)
            close(h->fd[i]);
    if (h->saver > 0) {
        kill(h->saver, SIGKILL);
        waitpid(h->saver, NULL, 0);
    }
    free(h->name);
    free(h);
}

static void take_out(agent *a, shelf *h)
{
    for (shelf **at = &a->shelves; *at; at = &(*at)->next)
        if (*at == h) {
            *at = h->next;
            break;
        }
    shelf_free(h);
}

static shelf *find(const agent *a, const char *name)
{
    for (shelf *h = a->shelves; h; h = h->next)
        if (strcmp(h->name, name) == 0)
            return h;
    return NULL;
}

static void drop_spare(agent *a)
{
    shelf *oldest = NULL; /* the list has the newest first */
    int n = 0;

    for (shelf *h = a->shelves; h; h = h->next)
        if (!h->used && h->saver == 0) {
            oldest = h;
            n++;
        }
    if (n > SPARE)
        take_out(a, oldest);
}

shelf *shelf_take(agent *a, const char *name)
{
    shelf *h = find(a, name);

    if (!h) {
        h = NEW(shelf);
        *h = (shelf){.next = a->shelves, .name = mem_text(name)};
        for (int i = 0; i < 2; i++)
            h->fd[i] = memfd_create("cfarm-checkpoint", MFD_CLOEXEC);
        a->shelves = h;
    }
    h->used = true;
    drop_spare(a);
    return h;
}

/* Where a file of ours can be opened by another process of ours. */
static json_t *path_of_memory(const shelf *h, int place)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%ld/fd/%d", (long)getpid(), h->fd[place]);
    return json_string(path);
}

void shelf_describe(const agent *a, const shelf *h, json_t *start)
{
    json_t *keep = json_array(), *from = json_array();
    char path[FS_PATH];

    for (int i = 0; i < 2 && h->fd[i] >= 0; i++) {
        json_array_append_new(keep, path_of_memory(h, i));
        if (h->step[i] > 0)
            json_array_append_new(from, path_of_memory(h, i));
    }
    for (int i = 0; i < 2; i++)
        if (path_of(path, a, h->name, i) == 0 && fs_exists(path))
            json_array_append_new(from, json_string(path));
    if (json_array_size(keep) == 2)
        json_object_set(start, "keep", keep);
    if (json_array_size(from) > 0)
        json_object_set(start, "from", from);
    json_object_set_new(start, "every", json_real(a->checkpoint_s));
    json_decref(keep);
    json_decref(from);
}

void shelf_told(shelf *h, const json_t *body)
{
    json_int_t place = json_integer_value(json_object_get(body, "place"));

    if (place != 0 && place != 1)
        return;
    h->step[place] = json_integer_value(json_object_get(body, "step"));
    h->bytes[place] = json_integer_value(json_object_get(body, "bytes"));
    if (h->step[1 - place] > h->step[place]) { /* it did not go on from that one: damaged, or of other settings */
        h->step[1 - place] = 0;
        h->saved = 0;
    }
}

static int newest(const shelf *h) { return h->step[1] > h->step[0]; }
int64_t shelf_step(const shelf *h) { return h->step[newest(h)]; }

/* ---- to the disk ---------------------------------------------------------------------------------------------- */

/* The place that was written longer ago, or never. */
static int older_place(const agent *a, const char *name)
{
    struct timespec when[2] = {{0}};
    char path[FS_PATH];
    struct stat st;

    for (int i = 0; i < 2; i++) {
        if (path_of(path, a, name, i) != 0 || stat(path, &st) != 0)
            return i;
        when[i] = st.st_mtim;
    }
    if (when[0].tv_sec != when[1].tv_sec)
        return when[1].tv_sec < when[0].tv_sec;
    return when[1].tv_nsec < when[0].tv_nsec;
}

static int write_out(const agent *a, const shelf *h, err *e)
{
    int from = newest(h);
    size_t n = (size_t)h->bytes[from];
    char path[FS_PATH];
    void *at;
    int rc;

    if (path_of(path, a, h->name, -1) != 0)
        return err_set(e, ERR_IO, "%s: a path too long", h->name);
    TRY(fs_mkdirs(path, e));
    path_of(path, a, h->name, older_place(a, h->name));
    if (fault_here("checkpoint.write"))
        return err_set(e, ERR_IO, "%s: a fault on purpose", path);
    at = mmap(NULL, n, PROT_READ, MAP_SHARED, h->fd[from], 0);
    if (at == MAP_FAILED)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    rc = fs_write(path, at, n, e);
    munmap(at, n);
    return rc;
}

static _Noreturn void save_and_leave(const agent *a, const shelf *h, pid_t parent)
{
    err e = {0};

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    if (write_out(a, h, &e) != 0)
        fprintf(stderr, "cfarm: the checkpoint of %s: %s\n", h->name, e.text);
    _exit(e.code != 0);
}

bool shelf_save(agent *a, shelf *h)
{
    pid_t self = getpid();

    if (h->saver > 0)
        return true;
    if (shelf_step(h) <= h->saved)
        return false;
    h->saving = shelf_step(h);
    fflush(NULL);
    h->saver = fork();
    if (h->saver == 0)
        save_and_leave(a, h, self);
    if (h->saver < 0) {
        h->saver = 0;
        h->saved = h->saving;
        return false;
    }
    return true;
}

void shelf_reap(agent *a)
{
    for (shelf *h = a->shelves; h; h = h->next) {
        int status;
        if (h->saver <= 0 || waitpid(h->saver, &status, WNOHANG) != h->saver)
            continue;
        h->saver = 0;
        h->saved = h->saving; /* once is enough, well or ill: a full disk does not get emptier by asking */
    }
}

/* Its saver is ended first: what it would write a moment later nobody removes. */
void shelf_forget(agent *a, shelf *h)
{
    char path[FS_PATH];
    bool named = path_of(path, a, h->name, -1) == 0;

    take_out(a, h);
    if (named && fs_is_dir(path))
        fs_remove_tree(path, NULL);
}

void shelf_end(agent *a)
{
    while (a->shelves)
        take_out(a, a->shelves);
}
