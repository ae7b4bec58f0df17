#include "trainer/regset_make.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/sample_batch.h"

int regset_model(char **out, sd *model, int side, err *e)
{
    static const char *const part[] = {"unet", "vae", "text_encoder"};
    str s = {0};

    for (int i = 0; i < 3; i++) {
        char hex[HASH_HEX];
        if (sd_digest(model, part[i], hex, e) != 0) {
            str_free(&s);
            return (int)e->code;
        }
        str_add(&s, "%.16s ", hex);
    }
    bool bf16 = nn_params_backend(sd_params(model))->computes == NN_BF16;
    str_add(&s, "%dx%d %s", side, side, bf16 ? "bf16" : "f32");
    *out = s.at;
    return 0;
}

int regset_make_check(const regset_cfg *c, err *e)
{
    char names[SAMPLER_NAMES];
    const sampler_kind *kind;

    for (size_t i = 0; c->generate > 0 && (kind = sampler_kind_at(i)) != NULL; i++)
        if (strcmp(kind->name, c->sampler) == 0)
            return 0;
    return c->generate == 0 ? 0 : err_set(e, ERR_INPUT, "regularisation.sampler: %s is none of %s", c->sampler, sampler_names(names));
}

/* ---- one picture, by one of all who want it ---- */

/* Byte k of the folder's lock file is picture k's. The lock goes with the process, however that ends; where a file system
 * has none, several may make one picture: the same bytes, renamed into place. */
static bool lock(int fd, int k, bool wait)
{
    struct flock at = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = k, .l_len = 1};

    while (fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &at) != 0)
        if (errno != EINTR)
            return !(errno == EAGAIN || errno == EACCES);
    return true;
}

static void unlock(int fd, int k)
{
    struct flock at = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = k, .l_len = 1};

    fcntl(fd, F_OFD_SETLK, &at);
}

typedef struct {
    sd *model;
    const tokenizer *words;
    sample_opts opts;
    const regset_need *need;
    const regset_watch *watch;
    sample_batch *batch;                /* NULL: one after another */
    int fd, made, at_once;
    int held[SAMPLE_BATCH_USUAL], n;    /* pictures that are locked, to be painted in one go */
    float *pixels;                      /* of at_once */
    bool left;
} maker;

static int path_of(const maker *m, int k, char path[FS_PATH], err *e)
{
    char name[32];

    regset_name(name, k);
    return fs_join(path, m->need->folder, name, e);
}

static int paint(maker *m, err *e)
{
    sample_ask ask[SAMPLE_BATCH_USUAL];

    if (!m->batch)
        return sample_picture(m->model, m->words, &m->opts, m->need->prompt, "", (uint32_t)m->held[0], m->pixels, e);
    for (int i = 0; i < m->n; i++)
        ask[i] = (sample_ask){m->need->prompt, "", (uint32_t)m->held[i]};
    return sample_batch_run(m->batch, m->words, ask, m->n, m->pixels, e);
}

static int keep(maker *m, int i, err *e)
{
    size_t n = (size_t)(m->opts.width * m->opts.height * 3);
    uint8_t *rgb = NEW_N(uint8_t, n);
    char path[FS_PATH];
    int rc = path_of(m, m->held[i], path, e);

    sample_bytes(m->pixels + (size_t)i * n, rgb, n);
    if (rc == 0)
        rc = image_write_png(path, rgb, m->opts.height, m->opts.width, e);
    free(rgb);
    m->made += rc == 0;
    return rc;
}

/* What is held is painted, kept, and let go. */
static int make_held(maker *m, err *e)
{
    if (m->n == 0)
        return 0;
    int rc = paint(m, e);
    for (int i = 0; i < m->n && rc == 0; i++)
        rc = keep(m, i, e);
    for (int i = 0; i < m->n; i++)
        unlock(m->fd, m->held[i]);
    if (rc != 0)
        return err_wrap(e, "making class picture %d", m->held[0]);
    m->n = 0;
    m->left = m->left || (m->watch->tick && m->watch->tick(m->watch->arg));
    return 0;
}

/* Holds picture k, unless it is there or somebody else is at it. Who waits for that one holds no other meanwhile, or two would
 * wait for each other. */
static int hold(maker *m, int k, bool wait, err *e)
{
    char path[FS_PATH];

    CHECK(!wait || m->n == 0);
    TRY(path_of(m, k, path, e));
    if (fs_exists(path) || !lock(m->fd, k, wait))
        return 0;
    if (fs_exists(path))
        unlock(m->fd, k);
    else
        m->held[m->n++] = k;
    return 0;
}

/* Those nobody is at first, then those that others had in hand: all are there in the end, though one of them died. */
static int make_share(maker *m, const comm *gang, err *e)
{
    for (int again = 0; again < 2; again++) {
        for (int k = comm_rank(gang); k < m->need->want && !m->left; k += comm_size(gang)) {
            TRY(hold(m, k, again > 0, e));
            if (m->n == (again > 0 ? 1 : m->at_once))
                TRY(make_held(m, e));
        }
        TRY(make_held(m, e));
    }
    return 0;
}

/* How many at once is decided by the whole set: whoever makes a picture makes it in a run of that many. */
static int make_missing(maker *m, const comm *gang, err *e)
{
    size_t one = (size_t)m->opts.width * (size_t)m->opts.height * 3 * sizeof(float);
    void *pixels;

    TRY(sample_check(m->model, &m->opts, e));
    TRY(sample_batch_some(&m->batch, m->model, &m->opts, m->need->want, &m->at_once, e));
    int rc = mem_big(&pixels, (size_t)m->at_once * one, "class pictures", e);
    if (rc == 0) {
        m->pixels = pixels;
        rc = make_share(m, gang, e);
        free(pixels);
    }
    sample_batch_close(m->batch);
    return rc;
}

/* ---- all ---- */

static int open_folder(maker *m, err *e)
{
    char path[FS_PATH];

    TRY(fs_mkdirs(m->need->folder, e));
    TRY(fs_join(path, m->need->folder, REGSET_MADE, e));
    if (!fs_exists(path))
        TRY(fs_write(path, m->need->recipe, strlen(m->need->recipe), e));
    TRY(fs_join(path, m->need->folder, ".making", e));
    m->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return m->fd >= 0 ? 0 : err_set(e, ERR_IO, "%s: %s", path, fs_reason(errno));
}

static void tell(const maker *m, const comm *gang)
{
    str line = {0};

    if (!m->watch->say || comm_rank(gang) != 0)
        return;
    str_add(&line, "class pictures \"%s\": %d found, %d made%s, in %s", m->need->prompt, m->need->have,
            m->need->want - m->need->have, comm_size(gang) > 1 ? " by the gang" : m->made < m->need->want - m->need->have ?
            " (some by others)" : "", m->need->folder);
    m->watch->say(m->watch->arg, line.at);
    str_free(&line);
}

static int make_set(maker *m, const comm *gang, err *e)
{
    if (m->need->have < m->need->want) {
        TRY(open_folder(m, e));
        int rc = make_missing(m, gang, e);
        close(m->fd);
        TRY(rc);
    }
    if (m->need->want > 0 && !m->left)
        tell(m, gang);
    return 0;
}

int regset_make(bool *left, sd *model, const tokenizer *words, const data_cfg *data, comm *gang, const regset_watch *watch, err *e)
{
    int side = data->resolution > 0 ? (int)data->resolution : sd_side(model), n = 0;
    regset_need *need = NULL;
    err mine = {0};

    *left = false;
    data_missing(&need, &n, data, &mine);
    for (int i = 0; i < n && !mine.code; i++) {
        const regset_cfg *c = &data_subject(data, i)->reg;
        maker m = {.model = model, .words = words, .need = &need[i], .watch = watch,
                   .opts = {.sampler = c->sampler, .steps = (int)c->sampling_steps, .eta = c->eta, .guidance = c->guidance,
                            .width = side, .height = side, .seed = (uint64_t)c->seed}};
        make_set(&m, gang, &mine);
        *left = *left || m.left;
    }
    free(need);
    TRY(comm_agree(gang, &mine, e)); /* nobody reads the folder before all have written */
    float leaving = *left;           /* in a gang nobody leaves alone */
    TRY(comm_sum(gang, &leaving, 1, e));
    *left = leaving > 0;
    return 0;
}
