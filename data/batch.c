#include "data/batch.h"

#include <stdlib.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/collage.h"
#include "data/image_cache.h"

struct batch_source {
    const data_cfg *cfg;
    const tokenizer *words;
    batch_opts opts;
    subjects from;
    int n, targets;
    int *with_prior, with_priors; /* subjects that have class pictures */
    image_cache *cache;
    collage *collage;             /* NULL: no sample shows two subjects */
};

/* ---- which pictures ---- */

/* Number `at` of a shuffle of 0..n-1: Fisher-Yates read backwards, so neither an array nor a state is needed. */
static uint32_t shuffled(rng_stream s, uint32_t n, uint32_t at)
{
    uint32_t from = at + rng_below(s, at, n - at);

    for (uint32_t i = at; i-- > 0;)
        if (from == i + rng_below(s, i, n - i))
            from = i;
    return from;
}

/* Draw number `draw` of its kind. */
static void pick(batch_sample *x, const batch_source *s, uint64_t draw)
{
    uint64_t among = (uint64_t)(x->prior ? s->with_priors : s->from.n), mine = draw / among;
    int turn = (int)(draw % among);

    x->subject = x->prior ? s->with_prior[turn] : turn;
    const subject *from = &s->from.at[x->subject];
    uint32_t n = x->prior ? from->priors : from->targets;
    rng_stream r = rng_open(s->opts.seed, "pick", (uint32_t)(mine / n), (uint32_t)(2 * x->subject + x->prior));
    x->picture = shuffled(r, n, (uint32_t)(mine % n));
}

static const subject_picture *picture_at(const batch_source *s, bool prior, int of, uint32_t picture)
{
    const subject *from = &s->from.at[of];

    return prior ? &from->prior[picture] : &from->target[picture];
}

static const subject_picture *picture_of(const batch_source *s, const batch_sample *x)
{
    return picture_at(s, x->prior, x->subject, x->picture);
}

/* Numbers of the stream "collage", by what they decide. */
enum { COLLAGE_WHETHER, COLLAGE_WHO, COLLAGE_PICTURE, COLLAGE_FORM };

/* The subject on the right, of those that have pictures of this kind; -1: the sample shows one. */
static int draw_other(const batch_source *s, const batch_sample *x, rng_stream r)
{
    int among = x->prior ? s->with_priors : s->from.n, at = 0;

    if (!s->collage || among < 2 || (double)rng_uniform(r, COLLAGE_WHETHER) >= s->cfg->cut_mix)
        return -1;
    for (int i = 0; i < among; i++)
        at = (x->prior ? s->with_prior[i] : i) == x->subject ? i : at;
    at = (at + 1 + (int)rng_below(r, COLLAGE_WHO, (uint32_t)among - 1)) % among;
    return x->prior ? s->with_prior[at] : at;
}

/* ---- how they are shown and what they weigh ---- */

static augment_recipe recipe_of(const batch_source *s, bool prior)
{
    static const augment_style other[] = {[DATA_CUT] = AUGMENT_CUT, [DATA_SQUASHED] = AUGMENT_SQUASH};
    augment_style resized = s->cfg->compat == COMPAT_PAPER ? AUGMENT_PAPER : AUGMENT_DIFFUSERS;

    return (augment_recipe){
        .style = s->cfg->manner.show == DATA_RESIZED ? resized : other[s->cfg->manner.show],
        .side = s->opts.side,
        .factor = s->opts.factor,
        .target = !prior,
        .resize = s->cfg->augment,
        .flip = data_flip(s->cfg),
        .middle = s->cfg->center_crop,
    };
}

static uint64_t mixed(uint64_t h, int64_t v)
{
    h = (h ^ (uint64_t)v) * 0x9E3779B97F4A7C15u; /* splitmix64's finisher, one half */
    return h ^ h >> 29;
}

/* What decides the pixels, and nothing else: the recipe and the draw's size and place, not its words or mask. */
static uint64_t key_of(const batch_source *s, const subject_picture *p, const augment_look *look)
{
    uint64_t h = p->id;

    h = mixed(h, s->opts.side);
    h = mixed(h, s->cfg->compat);
    h = mixed(h, s->cfg->manner.show);
    h = mixed(h, look->flip);
    h = mixed(h, look->high);
    h = mixed(h, look->wide);
    h = mixed(h, look->top);
    return mixed(h, look->left);
}

/* Both pictures as they are without a drawn size; the stream's next address draws the other's crop. */
static void make_collage(batch_sample *x, const batch_source *s, rng_stream r, uint32_t step, uint32_t sample)
{
    augment_recipe recipe = recipe_of(s, x->prior);
    const subject *from = &s->from.at[x->other];

    recipe.resize = false;
    x->other_picture = rng_below(r, COLLAGE_PICTURE, x->prior ? from->priors : from->targets);
    const subject_picture *p = picture_of(s, x), *q = picture_at(s, x->prior, x->other, x->other_picture);
    x->look = augment_draw(&recipe, p->h, p->w, s->opts.seed, step, sample);
    x->other_look = augment_draw(&recipe, q->h, q->w, s->opts.seed, step, sample + (uint32_t)s->n);
    x->key = mixed(key_of(s, p, &x->look), (int64_t)key_of(s, q, &x->other_look));
    x->caption = collage_caption(s->collage, x->prior, x->subject, x->other, (int)rng_below(r, COLLAGE_FORM, COLLAGE_FORMS));
}

static double weight_of(const batch_source *s, const batch_sample *x)
{
    bool port = s->cfg->compat == COMPAT_DIFFUSERS && s->cfg->manner.show == DATA_RESIZED;
    double cells = augment_cells(&x->look), share = x->prior ? s->cfg->prior_weight : 1.0;
    int among = !port && !s->cfg->manner.halves ? s->n : x->prior ? s->n - s->targets : s->targets;

    return share / (among * cells * (port && !x->prior ? 1 : s->opts.channels));
}

static void tokenise(int32_t tokens[TOKENS], const tokenizer *t, const char *prefix, const char *caption)
{
    str s = {0};

    str_add(&s, "%s%s", prefix, caption);
    tokenizer_encode(t, s.at, tokens);
    str_free(&s);
}

static const char *caption_of(const batch_source *s, const batch_sample *x, const subject_picture *p, uint32_t step,
                              uint32_t sample)
{
    const subject *from = &s->from.at[x->subject];

    if (x->prior || from->forms.n == 0)
        return p->caption;
    return from->forms.at[rng_below(rng_open(s->opts.seed, "template", step, sample), 0, (uint32_t)from->forms.n)];
}

void batch_plan(const batch_source *s, uint32_t step, batch_sample out[])
{
    for (int i = 0; i < s->n; i++) {
        batch_sample *x = &out[i];
        *x = (batch_sample){.prior = i >= s->targets, .other = -1};
        int kind = x->prior ? s->n - s->targets : s->targets, slot = x->prior ? i - s->targets : i;
        pick(x, s, (uint64_t)step * (uint64_t)kind + (uint64_t)slot);

        const subject_picture *p = picture_of(s, x);
        augment_recipe r = recipe_of(s, x->prior);
        x->look = augment_draw(&r, p->h, p->w, s->opts.seed, step, (uint32_t)i);
        x->key = key_of(s, p, &x->look);
        x->caption = caption_of(s, x, p, step, (uint32_t)i);
        rng_stream beside = rng_open(s->opts.seed, "collage", step, (uint32_t)i);
        x->other = draw_other(s, x, beside);
        if (x->other >= 0)
            make_collage(x, s, beside, step, (uint32_t)i);
        tokenise(x->tokens, s->words, x->look.prefix, x->caption);
        x->weight = (float)weight_of(s, x);
    }
}

static int render(batch_source *s, const subject_picture *p, const augment_recipe *r, const augment_look *look, float *pixels, err *e)
{
    const image *m;

    TRY(image_cache_borrow(&m, s->cache, p->id, p->path, e));
    int rc = augment_render(pixels, r, look, m, e);
    image_cache_return(s->cache, m);
    return rc ? err_wrap(e, "%s", p->path) : 0;
}

static int render_beside(batch_source *s, const batch_sample *x, const augment_recipe *r, float *pixels, err *e)
{
    float *right;

    TRY(mem_big((void **)&right, (size_t)(s->opts.side * s->opts.side * 3) * sizeof *right, "a picture", e));
    int rc = render(s, picture_at(s, x->prior, x->other, x->other_picture), r, &x->other_look, right, e);
    if (rc == 0)
        collage_join(pixels, right, s->opts.side);
    free(right);
    return rc;
}

int batch_pixels(batch_source *s, const batch_sample *x, float *pixels, err *e)
{
    augment_recipe r = recipe_of(s, x->prior);

    r.resize = r.resize && x->other < 0;
    TRY(render(s, picture_of(s, x), &r, &x->look, pixels, e));
    return x->other < 0 ? 0 : render_beside(s, x, &r, pixels, e);
}

void batch_mask(const batch_source *s, const batch_sample *x, float *mask)
{
    augment_recipe r = recipe_of(s, x->prior);

    r.resize = r.resize && x->other < 0;
    augment_mask(mask, &r, &x->look);
}

/* ---- opening ---- */

static int check_side(const batch_opts *o, err *e)
{
    int below = o->side / o->factor * o->factor;

    if (below != o->side)
        return err_set(e, ERR_INPUT, "resolution %d is no multiple of %d; %d and %d are", o->side, o->factor, below,
                       below + o->factor);
    return 0;
}

static bool holds_new_word(const int32_t tokens[TOKENS], const tokenizer *t)
{
    for (int i = 0; i < TOKENS; i++)
        if (tokens[i] >= tokenizer_vocab(t))
            return true;
    return false;
}

/* A caption is cut at TOKENS; the modifier token must not be in what is cut off, not even after a prefix. */
static int check_cut(const batch_source *s, err *e)
{
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];
    int32_t tokens[TOKENS];

    bool prefixed = s->cfg->augment && s->cfg->manner.show == DATA_RESIZED;

    for (int i = 0; i < s->from.n && !s->cfg->manner.rare_words; i++) {
        const subject *from = &s->from.at[i];
        for (uint32_t p = 0; p < from->targets && subject_tokens(words, s->cfg, i) > 0; p++) {
            tokenise(tokens, s->words, prefixed ? "a far away " : "", from->target[p].caption);
            if (!holds_new_word(tokens, s->words))
                return err_set(e, ERR_INPUT,
                               "%s: its caption has %s only after the %d tokens the model reads; shorten it",
                               from->target[p].path, words[0], TOKENS);
        }
    }
    return 0;
}

static void share_out(batch_source *s)
{
    s->n = data_batch(s->cfg);
    s->with_prior = NEW_N(int, s->from.n);
    for (int i = 0; i < s->from.n; i++)
        if (s->from.at[i].priors > 0)
            s->with_prior[s->with_priors++] = i;
    s->targets = s->with_priors ? s->n - s->n / 2 : s->n;
}

int batch_open(batch_source **out, const data_cfg *c, const tokenizer *t, const batch_opts *o, err *e)
{
    CHECK(o->side > 0 && o->factor > 0 && o->channels > 0);
    *out = NULL;
    TRY(check_side(o, e));
    batch_source *s = NEW(batch_source);
    *s = (batch_source){.cfg = c, .words = t, .opts = *o};
    int rc = subjects_open(&s->from, c, o->embed, e);
    if (rc == 0)
        rc = check_cut(s, e);
    if (rc == 0 && c->cut_mix > 0)
        rc = collage_open(&s->collage, c, e);
    if (rc != 0) {
        batch_close(s);
        return rc;
    }
    share_out(s);
    s->cache = image_cache_new(o->cache ? o->cache : BATCH_CACHE);
    *out = s;
    return 0;
}

void batch_close(batch_source *s)
{
    if (!s)
        return;
    image_cache_free(s->cache);
    collage_close(s->collage);
    subjects_close(&s->from);
    free(s->with_prior);
    free(s);
}

int batch_size(const batch_source *s)
{
    return s->n;
}

int batch_targets(const batch_source *s)
{
    return s->targets;
}

int batch_side(const batch_source *s)
{
    return s->opts.side;
}

const char *batch_manner(const batch_source *s)
{
    static const char *const words[] = {"paper-1", "diffusers-1", "cut-1", "squash-1"}; /* another number when a rendering changes */

    return words[recipe_of(s, true).style];
}

const subjects *batch_subjects(const batch_source *s)
{
    return &s->from;
}
