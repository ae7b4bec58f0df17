#include "trainer/regset_make.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/sample.h"

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
    int fd, made;
    bool left;
} maker;

static int paint(maker *m, int k, const char *path, err *e)
{
    size_t n = (size_t)(m->opts.width * m->opts.height * 3);
    float *pixels = NEW_N(float, n);
    uint8_t *rgb = NEW_N(uint8_t, n);
    int rc = sample_picture(m->model, m->words, &m->opts, m->need->prompt, "", (uint32_t)k, pixels, e);

    sample_bytes(pixels, rgb, n);
    if (rc == 0)
        rc = image_write_png(path, rgb, m->opts.height, m->opts.width, e);
    free(pixels);
    free(rgb);
    m->made += rc == 0;
    return rc;
}

/* *busy: somebody else is at it. */
static int make_one(maker *m, int k, bool wait, bool *busy, err *e)
{
    char name[32], path[FS_PATH];
    int rc = 0;

    *busy = false;
    regset_name(name, k);
    TRY(fs_join(path, m->need->folder, name, e));
    if (fs_exists(path))
        return 0;
    if (!lock(m->fd, k, wait)) {
        *busy = true;
        return 0;
    }
    if (!fs_exists(path))
        rc = paint(m, k, path, e);
    unlock(m->fd, k);
    m->left = m->left || (m->watch->tick && m->watch->tick(m->watch->arg));
    return rc == 0 ? 0 : err_wrap(e, "making class picture %d", k);
}

/* Those nobody is at first, then those that others had in hand: all are there in the end, though one of them died. */
static int make_share(maker *m, const comm *gang, err *e)
{
    for (int again = 0; again < 2; again++)
        for (int k = comm_rank(gang); k < m->need->want && !m->left; k += comm_size(gang)) {
            bool busy;
            TRY(make_one(m, k, again > 0, &busy, e));
        }
    return 0;
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
        int rc = make_share(m, gang, e);
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
