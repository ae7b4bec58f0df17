/* Disks fail; files are damaged between two starts. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/journal.h"
#include "tests/fault/harm_kinds.h"

/* ---- disks that fail ------------------------------------------------------------------------------------------ */

static void fault(world *w, const char *point, int most, const char *how)
{
    char text[64];

    snprintf(text, sizeof text, "%s:%d%s", point, pick(w, 1, most), how);
    with(w, "CFARM_FAULT", text, "2");
}

void link_fails(world *w) { fault(w, "publish.link", 4, ""); }
void dies_at_link(world *w) { fault(w, "publish.link", 4, ":kill"); }
void dies_at_write(world *w) { fault(w, "journal.write", 12, ":kill"); }
void dies_at_sync(world *w) { fault(w, "journal.sync", 12, ":kill"); }
void sync_fails(world *w) { fault(w, "journal.sync", 12, ""); }
void journal_full(world *w) { fault(w, "journal.write", 12, ""); }
void dies_at_rename(world *w) { fault(w, "fs.rename", 8, ":kill"); }
void rename_fails(world *w) { fault(w, "fs.rename", 8, ""); }
void checkpoint_fails(world *w)
{
    pid_t agent;

    setenv("CFARM_FAULT", "checkpoint.write:1", 1);
    agent = begin_and_wait_a_while(w);
    unsetenv("CFARM_FAULT");
    hit(agent, SIGTERM);
    await(w, agent);
}

/* The calls of the C library itself, by harm_shim.c, in every process of the farm. */
static void shim(world *w, const char *what, int most)
{
    char text[64], once[300];
    pid_t agent;

    snprintf(text, sizeof text, "%s:%d", what, pick(w, 1, most));
    snprintf(once, sizeof once, "%s/once", w->f.dir);
    setenv("HARM_ONCE", once, 1);
    setenv("HARM_SHIM", text, 1);
    setenv("LD_PRELOAD", HARM_SHIM_FILE, 1);
    agent = begin(w, "2");
    unsetenv("LD_PRELOAD");
    unsetenv("HARM_SHIM");
    unsetenv("HARM_ONCE");
    await(w, agent);
}

void shim_eio(world *w) { shim(w, "eio", 30); }
void shim_enospc(world *w) { shim(w, "enospc", 30); }
void shim_short(world *w) { shim(w, "short", 3); }
void shim_eintr(world *w) { shim(w, "eintr", 3); }
void shim_fsync(world *w) { shim(w, "fsync", 15); }
void shim_stall(world *w) { shim(w, "stall", 6); }
void shim_rename(world *w) { shim(w, "rename", 12); }
void shim_link(world *w) { shim(w, "link", 5); }
void shim_unlink(world *w) { shim(w, "unlink", 12); }
void shim_mkdir(world *w) { shim(w, "mkdir", 12); }
void shim_create(world *w) { shim(w, "create", 30); }
void shim_alloc(world *w) { shim(w, "alloc", 6000); }

/* A disk of its own that is full, and is enlarged while the farm runs. */
void disk_full(world *w)
{
    char at[300], size[32];
    pid_t agent;

    snprintf(at, sizeof at, "%s/pets", w->f.dir);
    snprintf(size, sizeof size, "size=%dk", pick(w, 6, 30) * 4);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mkdir(at, 0755) != 0 ||
        mount("tmpfs", at, "tmpfs", 0, size) != 0)
        skip_case(w, "a small disk cannot be mounted here");
    w->mounted = true;
    agent = begin(w, "2");
    nap(w, 200, 900);
    if (mount("tmpfs", at, "tmpfs", MS_REMOUNT, "size=8m") != 0)
        unlike(w, "the disk cannot be enlarged");
    await(w, agent);
}

/* ---- files that are damaged between two starts ---------------------------------------------------------------- */

static void newest_segment(const world *w, char path[400])
{
    char dir[300], **names;
    size_t n;

    snprintf(dir, sizeof dir, "%s/pets/journal", w->f.dir);
    if (fs_list(&names, &n, dir, NULL) != 0 || n == 0) {
        path[0] = '\0'; /* it was killed before it had one */
        return;
    }
    snprintf(path, 400, "%s/%s", dir, names[n - 1]);
    fs_list_free(names);
}

void journal_torn(world *w)
{
    char path[400];
    struct stat st;

    everything_killed(w);
    newest_segment(w, path);
    if (path[0] && stat(path, &st) == 0 && st.st_size > JOURNAL_HEAD) {
        int fd = open(path, O_WRONLY | O_APPEND);
        for (int i = pick(w, 1, 60); i > 0; i--) {
            unsigned char c = (unsigned char)pick(w, 0, 255);
            if (write(fd, &c, 1) != 1)
                unlike(w, "%s cannot be written", path);
        }
        close(fd);
    }
}

/* What was not committed is cut off; the last commit itself stays. */
void last_record_torn(world *w)
{
    char path[400];
    struct stat st;

    await(w, begin(w, "2")); /* to the end: the last record alone is DONE's */
    newest_segment(w, path);
    if (stat(path, &st) != 0 || truncate(path, st.st_size - pick(w, 1, 20)) != 0)
        unlike(w, "%s cannot be cut", path);
    w->status = -1;
}

static void flip(world *w, const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    unsigned char c;

    if (fd < 0 || pread(fd, &c, 1, at) != 1)
        unlike(w, "%s cannot be read", path);
    c = (unsigned char)(c ^ (1 << (at % 8)));
    if (pwrite(fd, &c, 1, at) != 1)
        unlike(w, "%s cannot be written", path);
    close(fd);
}

/* Refused, with nothing repaired or dropped; made whole again, it goes on. */
void journal_flipped(world *w)
{
    char path[400];
    off_t at;

    await(w, begin(w, "2"));
    newest_segment(w, path);
    at = pick(w, JOURNAL_HEAD, JOURNAL_HEAD + 200);
    flip(w, path, at);
    await(w, begin(w, "2"));
    if (w->status != 3)
        unlike(w, "a damaged journal was taken: status %d", w->status);
    flip(w, path, at);
    w->status = -1;
}

void checkpoint_damaged(world *w)
{
    char command[600];

    told_term(w);
    snprintf(command, sizeof command, "for f in %s/pets/ckpt/*/[01]; do [ ! -e \"$f\" ] || printf x | dd of=\"$f\" bs=1 seek=%d "
             "conv=notrunc status=none; done", w->f.dir, pick(w, 0, 24));
    if (system(command) != 0)
        unlike(w, "the checkpoints cannot be damaged");
}

void checkpoint_cut(world *w)
{
    char command[600];

    told_term(w);
    snprintf(command, sizeof command, "for f in %s/pets/ckpt/*/%d; do [ ! -e \"$f\" ] || truncate -s %d \"$f\"; done", w->f.dir,
             pick(w, 0, 1), pick(w, 0, 24));
    if (system(command) != 0)
        unlike(w, "the checkpoints cannot be cut");
}
