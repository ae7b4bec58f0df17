/* A training before its first step: its words get rows, its missing class pictures are made, its data is found. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/regset_make.h"
#include "trainer/training_inside.h"

#define LATENTS_KEPT ((size_t)1 << 30)

/* ---- words ---- */

/* Nobody gave them: what to say when sampling must be told. */
static void tell_words(const training *t)
{
    for (int i = 0; i < data_subjects(&t->data) && t->job->say && comm_rank(t->job->gang) == 0; i++) {
        const char *word = data_chosen(&t->data, i), *class_word = data_subject(&t->data, i)->class_word;
        char text[256];
        if (!word[0])
            continue;
        snprintf(text, sizeof text, "identifier: \"%s %.100s\", a rare word of this vocabulary chosen for it; token: another changes it", word,
                 class_word);
        t->job->say(t->job->arg, text);
    }
}

static int open_words(training *t, err *e)
{
    int width = sd_text_shape(t->model)->width;

    TRY(sd_words(&t->words, t->model, e));
    TRY(subject_choose(&t->data, t->words, e));
    tell_words(t);
    TRY(subject_words(t->word, &t->n_words, &t->data, t->words, e));
    float *rows = NEW_N(float, t->n_words * width + 1);
    int rc = 0;
    for (int i = 0; i < t->n_words && rc == 0; i++)
        rc = sd_text_row(t->model, t->word[i].start, rows + i * width, e);
    if (rc == 0)
        rc = sd_text_rows_set(t->model, rows, t->n_words, e);
    free(rows);
    return rc;
}

/* The ids between the first and the end are a word's. */
static void find_said(training *t)
{
    int subjects_n = data_subjects(&t->data);
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];
    int32_t ids[TOKENS];

    t->said = NEW_N(word_ids, subjects_n);
    t->n_said = NEW_N(int, subjects_n);
    for (int i = 0; i < subjects_n; i++)
        for (int k = 0, n = subject_tokens(words, &t->data, i); k < n; k++) {
            tokenizer_encode(t->words, words[k], ids);
            for (int j = 1; ids[j] != tokenizer_eos(t->words) && t->n_said[i] < SUBJECT_WORDS_MOST; j++)
                t->said[i][t->n_said[i]++] = ids[j];
        }
}

/* ---- captions and pictures ---- */

/* Captions as vectors, for regularisation chosen from an index. */
typedef struct { sd *model; const tokenizer *words; } embedder;

static int embed_captions(void *arg, const char *const captions[], int n, float *out, err *e)
{
    const embedder *by = arg;
    int32_t ids[REGSET_CHUNK * TOKENS];

    CHECK(n <= REGSET_CHUNK);
    for (int i = 0; i < n; i++)
        tokenizer_encode(by->words, captions[i], ids + i * TOKENS);
    return sd_text_embed(by->model, ids, n, TOKENS, tokenizer_eos(by->words), out, e);
}

/* As set, else beside the first generated class pictures: that folder is ours. */
static int find_kept(training *t, err *e)
{
    regset_need *need;
    int n, rc = 0;

    if (t->job->cfg->how.kept[0])
        return fs_join(t->kept, t->data.root, t->job->cfg->how.kept, e);
    TRY(data_missing(&need, &n, &t->data, e));
    for (int i = 0; i < n && !t->kept[0] && rc == 0; i++)
        if (need[i].want > 0)
            rc = fs_join(t->kept, need[i].folder, "moments", e);
    free(need);
    return rc;
}

/* How class pictures were chosen: what an index gave can be seen nowhere else. */
static void tell_chosen(const training *t)
{
    const subjects *all = batch_subjects(t->batches);

    for (int i = 0; i < all->n && t->job->say && comm_rank(t->job->gang) == 0; i++) {
        const subject *s = &all->at[i];
        char text[256];
        if (s->told.of == 0)
            continue;
        snprintf(text, sizeof text, "regularisation of %.60s: %zu of %zu captions are as near as %.3g, the farthest of %u taken is at %.4f",
                 s->cfg->class_word, s->told.found, s->told.of, s->cfg->reg.similarity, (unsigned)s->priors, s->told.lowest);
        t->job->say(t->job->arg, text);
    }
}

static int open_data(training *t, err *e)
{
    const data_cfg *d = &t->data;
    embedder by = {t->model, t->words};
    regset_embed embed = {sd_text_embed_width(t->model), embed_captions, &by};
    batch_opts o = {
        .side = d->resolution > 0 ? (int)d->resolution : sd_side(t->model),
        .factor = vae_factor(sd_vae_shape(t->model)),
        .channels = sd_latent_channels(t->model),
        .seed = (uint64_t)t->job->cfg->how.seed,
        .embed = &embed,
    };

    TRY(find_kept(t, e));
    TRY(batch_open(&t->batches, d, t->words, &o, e));
    tell_chosen(t);
    if (!t->pool)
        t->pool = t->own = latents_pool_new(t->model, batch_side(t->batches), LATENTS_KEPT);
    t->latents = latents_new(t->pool, t->batches, t->kept);
    t->plan = NEW_N(batch_sample, t->job->cfg->how.accumulate * batch_size(t->batches));
    return 0;
}

/* ---- class pictures ---- */

static bool still_loading(void *arg) { return training_tell(arg, "loading", NULL, 0, 0); }

static void pass_on(void *arg, const char *text) { training_say(arg, text); }

/* Files are read whole for their digest only where pictures are to be found, or made, by it. */
static int make_pictures(training *t, err *e)
{
    int side = t->data.resolution > 0 ? (int)t->data.resolution : sd_side(t->model);
    regset_watch watch = {t, pass_on, still_loading};
    bool generates = false;

    for (int i = 0; i < data_subjects(&t->data); i++)
        generates = generates || data_subject(&t->data, i)->reg.generate > 0;
    if (generates)
        TRY(regset_model(&t->model_key, t->model, side, e));
    t->data.model = t->model_key;
    return regset_make(&t->left, t->model, t->words, &t->data, t->job->gang, &watch, e);
}

/* Of products; what frozen weights are laid out for is decided here. A backend without a choice computes as it does. */
static int choose_compute(training *t, err *e)
{
    nn_backend *on = nn_params_backend(sd_params(t->model));
    nn_compute c = t->job->cfg->how.compute == COMPUTE_BF16 ? NN_BF16 : NN_F32;
    const char *why;

    if (!on->compute)
        return 0;
    if (comm_rank(t->job->gang) == 0)
        training_say(t, nn_best_compute(on, &why) == c ? why : c == NN_BF16 ? "bf16, as asked for" : "f32, as asked for");
    return on->compute(on, c, e);
}

static int prepare(training *t, err *e)
{
    TRY(train_check(&t->job->cfg->how, &t->job->cfg->data, e));
    TRY(choose_compute(t, e));
    TRY(open_words(t, e));
    TRY(make_pictures(t, e));
    if (t->job->cfg->how.unmix > 0)
        find_said(t);
    return t->left ? 0 : open_data(t, e);
}

/* Rank 0 first: what it keeps on disk the others find there. */
static int prepare_method(training *t, err *e)
{
    bool first = comm_rank(t->job->gang) == 0;
    err mine = {0};

    if (!t->how->prepare)
        return 0;
    if (first)
        t->how->prepare(t->model, &t->job->cfg->how, &mine);
    TRY(comm_agree(t->job->gang, &mine, e));
    if (!first)
        t->how->prepare(t->model, &t->job->cfg->how, &mine);
    return comm_agree(t->job->gang, &mine, e);
}

int training_load(training *t, err *e)
{
    err mine = {0};

    training_tell(t, "loading", NULL, 0, 0);
    prepare(t, &mine);
    TRY(comm_agree(t->job->gang, &mine, e)); /* a picture only one rank could not read fails them all, with its name */
    t->sum.stopped = t->left;
    return t->left ? 0 : prepare_method(t, e);
}
