/* The order of steps is the promise: bytes durable, address durable, name durable. A crash between any two of them
 * leaves something that the same steps, done again, complete. */
#include "scheduler/publish.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/base/fault.h"
#include "cluster/base/str.h"

static const char ASIDE[] = ".aside-";

static int path_in(char out[FS_PATH], err *e, const char *farm, const char *fmt, const char *a, const char *b)
{
    char rest[FS_PATH];
    int n = snprintf(rest, sizeof rest, fmt, a, b);

    if (n < 0 || n >= FS_PATH)
        return err_set(e, ERR_INPUT, "%s: a path too long", a);
    return fs_join(out, farm, rest, e);
}

int publish_aside(char out[FS_PATH], const char *farm, const char *name, int attempt, err *e)
{
    char rest[64];

    snprintf(rest, sizeof rest, "%d-%ld.h5", attempt, (long)getpid());
    return path_in(out, e, farm, "obj/.aside-%s-%s", name, rest);
}

static int refuse(err *e, const char *path, const char *verb)
{
    return err_set(e, ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The name exists: perhaps because this very result was published before and its news was lost. */
static int check_taken(const char *object, const char *out, const char *sha256, err *e)
{
    char there[HASH_HEX];

    if (same_file(object, out))
        return 0;
    TRY(hash_file(out, there, e));
    if (strcmp(there, sha256) == 0)
        return 0;
    return err_set(e, ERR_PEER, "%s is there already with other bytes (sha256 %.12s, this one %.12s)", out, there,
                   sha256);
}

static int give_name(const char *object, const char *out, const char *sha256, err *e)
{
    if (fault_here("publish.link"))
        return err_set(e, ERR_IO, "%s: cannot link: a fault on purpose", out);
    if (link(object, out) == 0)
        return 0;
    return errno == EEXIST ? check_taken(object, out, sha256, e) : refuse(e, out, "link");
}

/* Bytes that have their address already keep it: another name may stand for the same ones. */
static int give_address(const char *aside, const char *folder, const char *object, const char *sha256, err *e)
{
    char there[HASH_HEX];

    if (fs_exists(object) && hash_file(object, there, NULL) == 0 && strcmp(there, sha256) == 0)
        return fs_sync_dir(folder, e); /* whoever put it there may have died before this */
    return fs_commit(aside, object, e);
}

int publish_names(char out[FS_PATH], char object[FS_PATH], const char *farm, const char *name, const char *sha256, err *e)
{
    char head[3] = {sha256[0], sha256[0] ? sha256[1] : 0, 0};

    if (strlen(sha256) != HASH_HEX - 1 || strspn(sha256, "0123456789abcdef") != HASH_HEX - 1)
        return err_set(e, ERR_PEER, "a result whose hash is none: %.80s", sha256);
    TRY(path_in(object, e, farm, "obj/%s/%s.h5", head, sha256));
    return path_in(out, e, farm, "out/%s.h5%s", name, "");
}

static int steps(const char *farm, const char *aside, const char *sha256, const char *name, err *e)
{
    char head[3] = {sha256[0], sha256[1], 0}, folder[FS_PATH], object[FS_PATH], out[FS_PATH], outs[FS_PATH];

    TRY(publish_names(out, object, farm, name, sha256, e));
    TRY(path_in(folder, e, farm, "obj/%s%s", head, ""));
    TRY(path_in(outs, e, farm, "out%s%s", "", ""));
    TRY(fs_mkdirs(folder, e));
    TRY(fs_mkdirs(outs, e));
    TRY(give_address(aside, folder, object, sha256, e));
    TRY(give_name(object, out, sha256, e));
    return fs_sync_dir(outs, e);
}

int publish(const char *farm, const char *aside, const char *sha256, const char *name, err *e)
{
    int rc = steps(farm, aside, sha256, name, e);

    fs_discard(aside);
    return rc;
}

int publish_find(const char *farm, const char *name, char sha256[HASH_HEX], err *e)
{
    char out[FS_PATH], object[FS_PATH];

    sha256[0] = '\0';
    TRY(path_in(out, e, farm, "out/%s.h5%s", name, ""));
    if (!fs_exists(out))
        return 0;
    TRY(hash_file(out, sha256, e));
    TRY(publish_names(out, object, farm, name, sha256, e));
    if (!same_file(object, out))
        sha256[0] = '\0'; /* somebody's own file */
    return 0;
}

/* A result on its way (ours), or a small file that its writer did not live to rename (fs_aside's). */
static bool is_left_over(const char *name) { return str_starts(name, ASIDE) || strstr(name, ".tmp-"); }

static int sweep_folder(const char *folder, err *e)
{
    char path[FS_PATH];
    DIR *d = opendir(folder);

    if (!d)
        return errno == ENOENT ? 0 : refuse(e, folder, "open folder");
    for (struct dirent *at; (at = readdir(d));)
        if (is_left_over(at->d_name) && fs_join(path, folder, at->d_name, NULL) == 0)
            unlink(path);
    closedir(d);
    return 0;
}

int publish_sweep(const char *farm, err *e)
{
    static const char *const folders[] = {".", "obj", "out", "journal"};
    char folder[FS_PATH];

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        TRY(fs_join(folder, farm, folders[i], e));
        TRY(sweep_folder(folder, e));
    }
    publish_sweep_gangs(farm);
    return 0;
}

void publish_sweep_gangs(const char *farm)
{
    char folder[FS_PATH];

    if (fs_join(folder, farm, "gang", NULL) == 0 && fs_is_dir(folder))
        fs_remove_tree(folder, NULL);
}
