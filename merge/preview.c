#include "merge/preview.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/image.h"

extern char **environ;

/* ---- the program beside this one ---- */

static int find_sampler(char out[FS_PATH], err *e)
{
    char self[FS_PATH];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;
    if (n <= 0)
        return err_set(e, ERR_IO, "cfarm-sample cannot be found: %s", fs_reason(errno));
    self[n] = '\0';
    slash = strrchr(self, '/');
    *slash = '\0';
    TRY(fs_join(out, self, "cfarm-sample", e));
    return access(out, X_OK) == 0 ? 0 : err_set(e, ERR_INPUT, "%s is not there; --prompt needs it", out);
}

static int run(const char *program, char *const argv[], err *e)
{
    pid_t child;
    int status, rc = posix_spawn(&child, program, NULL, NULL, argv, environ);
    if (rc != 0)
        return err_set(e, ERR_IO, "%s cannot be started: %s", program, fs_reason(rc));
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return err_set(e, ERR_IO, "%s cannot be waited for: %s", program, fs_reason(errno));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : err_set(e, ERR_INPUT, "cfarm-sample made no pictures");
}

/* ---- one column ---- */

/* The prompt in the words that concept i had before the merge; i -1: as it is. free() it. */
static char *in_words_of(const preview_job *j, int i, const char *prompt)
{
    str s = {0};
    int first = 0;
    str_put(&s, "", 0);
    for (int k = 0; k < i; k++)
        first += j->in[k].n_tokens;
    while (*prompt) {
        int t = 0, words = i < 0 ? 0 : j->in[i].n_tokens;
        while (t < words && !str_starts(prompt, j->out->tokens[first + t].word))
            t++;
        if (t < words) {
            str_add(&s, "%s", j->in[i].tokens[t].word);
            prompt += strlen(j->out->tokens[first + t].word);
        } else {
            str_put(&s, prompt++, 1);
        }
    }
    return s.at ? s.at : mem_text("");
}

static int make_column(const preview_job *j, const char *sampler, const char *from, int i, const char *name, err *e)
{
    enum { OTHERS = 12 };
    char out[FS_PATH], steps[16], **argv = NEW_N(char *, 2 * j->prompts + OTHERS);
    int n = 0, rc;
    TRY(fs_join(out, j->dir, name, e));
    snprintf(steps, sizeof steps, "%d", j->steps);
    const char *fixed[] = {sampler, "--model", j->base, "--out", out, "--steps", steps, "--grid=false"};
    for (size_t k = 0; k < sizeof fixed / sizeof *fixed; k++)
        argv[n++] = mem_text(fixed[k]);
    if (from) {
        argv[n++] = mem_text("--from");
        argv[n++] = mem_text(from);
    }
    for (int k = 0; k < j->prompts; k++) {
        argv[n++] = mem_text("--prompt");
        argv[n++] = in_words_of(j, i, j->prompt[k]);
    }
    rc = run(sampler, argv, e);
    for (int k = 0; k < n; k++)
        free(argv[k]);
    free(argv);
    return rc;
}

/* ---- side by side ---- */

typedef struct {
    int columns;
    char **name; /* of their folders */
    image *picture;
} grid;

static int read_pictures(grid *g, const preview_job *j, err *e)
{
    g->picture = NEW_N(image, g->columns * j->prompts);
    for (int p = 0; p < j->prompts; p++)
        for (int c = 0; c < g->columns; c++) {
            char path[FS_PATH], name[400];
            snprintf(name, sizeof name, "%.300s/%05d.png", g->name[c], p);
            TRY(fs_join(path, j->dir, name, e));
            TRY(image_load(&g->picture[p * g->columns + c], path, e));
        }
    return 0;
}

static int write_grid(const grid *g, const preview_job *j, err *e)
{
    int n = g->columns * j->prompts;
    const uint8_t **rgb = NEW_N(const uint8_t *, n);
    char path[FS_PATH];
    for (int i = 0; i < n; i++)
        rgb[i] = g->picture[i].rgb;
    int rc = fs_join(path, j->dir, "grid.png", e);
    if (rc == 0)
        rc = image_write_grid(path, rgb, n, g->columns, g->picture[0].h, g->picture[0].w, e);
    free(rgb);
    return rc;
}

static int add_column(grid *g, const preview_job *j, const char *sampler, const char *from, int i, const char *name, err *e)
{
    g->name = mem_grow(g->name, (size_t)g->columns + 1, sizeof *g->name);
    g->name[g->columns++] = mem_text(name);
    return make_column(j, sampler, from, i, name, e);
}

static int make_all(grid *g, const preview_job *j, err *e)
{
    char sampler[FS_PATH], name[300];
    TRY(find_sampler(sampler, e));
    TRY(fs_mkdirs(j->dir, e));
    TRY(add_column(g, j, sampler, NULL, -1, "0-base", e));
    for (int i = 0; i < j->n; i++) {
        if (!fs_exists(j->file[i]))
            continue;
        snprintf(name, sizeof name, "%d-%.250s", g->columns, fs_base(j->file[i]));
        TRY(add_column(g, j, sampler, j->file[i], i, name, e));
    }
    snprintf(name, sizeof name, "%d-merged", g->columns);
    TRY(add_column(g, j, sampler, j->merged, -1, name, e));
    TRY(read_pictures(g, j, e));
    return write_grid(g, j, e);
}

int preview(const preview_job *j, err *e)
{
    grid g = {0};
    int rc = fs_exists(j->dir) ? err_set(e, ERR_INPUT, "%s is there already; give another name with --preview", j->dir)
                               : make_all(&g, j, e);
    for (int i = 0; i < g.columns; i++)
        free(g.name[i]);
    for (int i = 0; g.picture && i < g.columns * j->prompts; i++)
        image_free(&g.picture[i]);
    free(g.name);
    free(g.picture);
    return rc;
}
