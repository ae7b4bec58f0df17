/* scratch MODEL STATE STAGE...: see scratch.h. */
#include "trainer/scratch/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"

enum { LOG_EVERY = 20 };
static const double SAVE_EVERY = 240;

/* ---- pictures and words ---- */

void scratch_draw(uint8_t *out, const world_scene *what)
{
    canvas c = canvas_new(WORLD_SIDE, WORLD_SIDE);

    world_draw(&c, what);
    canvas_to_bytes(&c, out);
    canvas_free(&c);
}

void scratch_picture(uint8_t *out, uint64_t seed, uint32_t i)
{
    const world_scene what = world_pick(seed, i);

    scratch_draw(out, &what);
}

uint8_t *scratch_pictures(const scratch *s)
{
    const size_t one = (size_t)WORLD_SIDE * WORLD_SIDE * 3;
    uint8_t *all = NEW_N(uint8_t, (size_t)s->pictures * one);

    for (int i = 0; i < s->pictures; i++)
        scratch_picture(all + (size_t)i * one, SCRATCH_SEED, (uint32_t)i);
    return all;
}

int scratch_words(int32_t ids[TOKENS], const tokenizer *t, uint64_t seed, uint32_t i, uint32_t step)
{
    const world_scene what = world_pick(seed, i);
    str text = {0};

    world_say(&text, &what, seed + step, i);
    const int n = tokenizer_encode(t, text.at, ids);
    str_free(&text);
    return n;
}

int scratch_tokenizer(tokenizer **out, const scratch *s, err *e)
{
    char dir[FS_PATH];

    TRY(fs_join(dir, s->model, "tokenizer", e));
    return tokenizer_open(out, dir, e);
}

/* ---- a stage's time ---- */

static int put_away(const char *state, fit *f, int (*write)(void *arg, err *e), void *arg, err *e)
{
    TRY(fit_save(f, state, e));
    TRY(fit_swap(f, e));
    TRY(write(arg, e));
    return fit_swap(f, e);
}

static void tell(FILE *log, const char *stage, int64_t step, double loss, double seconds)
{
    fprintf(log, "%lld,%.6f,%.1f\n", (long long)step, loss, seconds);
    fflush(log);
    printf("%s step %lld loss %.5f after %.0f s\n", stage, (long long)step, loss, seconds);
    fflush(stdout);
}

static int steps(const scratch *s, const char *stage, const char *state, FILE *log, fit *f, scratch_step *step,
                 int (*write)(void *arg, err *e), void *arg, err *e)
{
    const double from = clock_s();
    double sum = 0, saved = from;

    while (clock_s() - from < 60 * s->minutes && (!s->until || fit_steps(f) < s->until)) {
        float loss = 0;

        TRY(step(arg, f, &loss, e));
        sum += (double)loss;
        if (fit_steps(f) % LOG_EVERY == 0) {
            tell(log, stage, fit_steps(f), sum / LOG_EVERY, clock_s() - from);
            sum = 0;
        }
        if (clock_s() - saved > SAVE_EVERY) {
            TRY(put_away(state, f, write, arg, e));
            saved = clock_s();
        }
    }
    return put_away(state, f, write, arg, e);
}

int scratch_run(const scratch *s, const char *stage, fit *f, scratch_step *step, int (*write)(void *arg, err *e), void *arg, err *e)
{
    char state[FS_PATH], log[FS_PATH], name[64];
    bool found;

    TRY(fs_mkdirs(s->state, e));
    snprintf(name, sizeof name, "%s.state", stage);
    TRY(fs_join(state, s->state, name, e));
    snprintf(name, sizeof name, "%s.csv", stage);
    TRY(fs_join(log, s->state, name, e));
    TRY(fit_load(f, state, &found, e));
    FILE *to = fopen(log, found ? "a" : "w");
    if (!to)
        return err_set(e, ERR_IO, "%s: cannot be written", log);
    int rc = steps(s, stage, state, to, f, step, write, arg, e);
    fclose(to);
    return rc;
}

/* ---- the beginning ---- */

int scratch_begin(const scratch *s, err *e)
{
    int entries;

    TRY(fs_mkdirs(s->model, e));
    TRY(toy_tokenizer(&entries, s->model, WORLD_WORDS, e));
    return toy_model(s->model, &TOY_WORLD, entries, e);
}
