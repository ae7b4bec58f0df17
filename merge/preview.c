#include "merge/preview.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/image.h"
#include "merge/pictures.h"

static const double GUIDANCE = 6;

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

static int make_column(const preview_job *j, const char *from, int i, const char *name, err *e)
{
    char out[FS_PATH], **prompt = NEW_N(char *, j->prompts);
    for (int k = 0; k < j->prompts; k++)
        prompt[k] = in_words_of(j, i, j->prompt[k]);
    int rc = fs_join(out, j->dir, name, e);
    if (rc == 0)
        rc = pictures_make(&(pictures_job){.model = j->base, .from = from, .prompt = (const char *const *)prompt, .prompts = j->prompts,
                                           .count = 1, .steps = j->steps, .guidance = GUIDANCE, .seed = 1, .out = out}, e);
    for (int k = 0; k < j->prompts; k++)
        free(prompt[k]);
    free(prompt);
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

static int add_column(grid *g, const preview_job *j, const char *from, int i, const char *name, err *e)
{
    g->name = mem_grow(g->name, (size_t)g->columns + 1, sizeof *g->name);
    g->name[g->columns++] = mem_text(name);
    return make_column(j, from, i, name, e);
}

static int make_all(grid *g, const preview_job *j, err *e)
{
    char name[300];
    TRY(fs_mkdirs(j->dir, e));
    TRY(add_column(g, j, NULL, -1, "0-base", e));
    for (int i = 0; i < j->n; i++) {
        if (!fs_exists(j->file[i]))
            continue;
        snprintf(name, sizeof name, "%d-%.250s", g->columns, fs_base(j->file[i]));
        TRY(add_column(g, j, j->file[i], i, name, e));
    }
    snprintf(name, sizeof name, "%d-merged", g->columns);
    TRY(add_column(g, j, j->merged, -1, name, e));
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
