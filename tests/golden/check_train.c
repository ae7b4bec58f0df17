/* The training trajectories of train_golden: ten updates by the product's own stepper and methods, on the golden's
 * latents, noise, timesteps and prompts. A method that is not in the table leaves its entries NOT BUILT. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "tests/golden/golden.h"
#include "trainer/method/method.h"
#include "trainer/step.h"
#include "trainer/train.h"

typedef struct {
    const char *name;
    const method *how;
    train_cfg cfg;
    int64_t steps, accumulate;
    bool row, prior, mask;
    double prior_weight;
    step_adamw adam;
    int first_word;              /* id of <new1> */
} trajectory;

typedef struct {
    const trajectory *t;
    float *latents, *noise, *masks;
    int32_t *timesteps, *ids;
    int64_t h, w, c;
    int64_t from;                /* golden step of the update's first sample */
} drawn;

/* ---- reading what a trajectory is ---- */

static int adam_of(const json_t *row, const json_t *defaults, step_adamw *out, err *e)
{
    const json_t *own = json_object_get(row, "adam");
    const json_t *betas = json_object_get(own, "betas");

    if (!betas)
        betas = json_object_get(defaults, "betas");
    out->beta1 = json_number_value(json_array_get(betas, 0));
    out->beta2 = json_number_value(json_array_get(betas, 1));
    TRY(json_get_real(defaults, "weight_decay", &out->weight_decay, e));
    TRY(json_get_real(defaults, "eps", &out->eps, e));
    if (own) {
        TRY(json_opt_real(own, "weight_decay", out->weight_decay, &out->weight_decay, e));
        TRY(json_opt_real(own, "eps", out->eps, &out->eps, e));
    }
    TRY(json_get_real(row, "lr", &out->lr, e));
    return json_opt_real(row, "clip", 0, &out->clip, e);
}

static const char *method_of(const char *kind)
{
    return strcmp(kind, "cd") == 0 ? "custom-diffusion" : strcmp(kind, "db") == 0 ? "dreambooth" : "textual-inversion";
}

static int read_trajectory(trajectory *t, const char *name, const json_t *row, const json_t *all, err *e)
{
    const char *kind;
    bool q_out = false, te = false;
    int64_t first;

    *t = (trajectory){.name = name};
    TRY(json_get_text(row, "kind", &kind, e));
    TRY(json_opt_bool(row, "q_out", false, &q_out, e));
    TRY(json_opt_bool(row, "te", false, &te, e));
    TRY(json_opt_bool(row, "row", false, &t->row, e));
    TRY(json_opt_bool(row, "mask", false, &t->mask, e));
    TRY(json_opt_int(row, "steps", 1, 1 << 20, 10, &t->steps, e));
    TRY(json_opt_int(row, "accum", 1, 1 << 10, 1, &t->accumulate, e));
    TRY(json_opt_real(row, "prior", 0, &t->prior_weight, e));
    t->prior = json_is_number(json_object_get(row, "prior"));
    TRY(adam_of(row, json_object_get(all, "optimizer"), &t->adam, e));
    TRY(json_get_int(all, "modifier_id", 0, INT32_MAX, &first, e));
    t->first_word = (int)first;
    t->how = method_find(method_of(kind));
    t->cfg = (train_cfg){.freeze = q_out ? FREEZE_CROSSATTN : FREEZE_KV, .train_text_encoder = te};
    return 0;
}

static const char *ids_entry(const trajectory *t)
{
    if (t->row && strcmp(t->how->name, "textual-inversion") == 0)
        return "data/ids_ti";
    return t->row ? "data/ids_new" : "data/ids_sks";
}

static int read_drawn(golden *g, const trajectory *t, drawn *d, err *e)
{
    const st_tensor *x;
    st_tensor s;
    float *raw;

    *d = (drawn){.t = t};
    TRY(golden_tensor(g, "data/latents", &x, e)); /* [step, 2, c, h, w] */
    d->c = x->d[2], d->h = x->d[3], d->w = x->d[4];
    int64_t n = x->d[0] * x->d[1], map = d->h * d->w;
    for (int which = 0; which < 2; which++) {
        TRY(golden_f32(g, which ? "data/noise" : "data/latents", &raw, &s, e));
        float *to = NEW_N(float, n * d->c * map);
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < d->c; c++)
                for (int64_t p = 0; p < map; p++)
                    to[(i * map + p) * d->c + c] = raw[(i * d->c + c) * map + p];
        free(raw);
        *(which ? &d->noise : &d->latents) = to;
    }
    TRY(golden_f32(g, "data/mask", &d->masks, NULL, e));
    TRY(golden_i32(g, "data/timesteps", &d->timesteps, NULL, e));
    return golden_i32(g, ids_entry(t), &d->ids, NULL, e);
}

static void free_drawn(drawn *d)
{
    void *all[] = {d->latents, d->noise, d->masks, d->timesteps, d->ids};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---- one sample of a step: even ones are instances, odd ones class pictures (or instances too, without a prior) ---- */

static float weight_of(const drawn *d, bool instance, const float *mask)
{
    const trajectory *t = d->t;
    double elements = (double)(d->h * d->w * d->c), valid = 0;

    for (int64_t p = 0; p < d->h * d->w; p++)
        valid += (double)mask[p];
    double mean = 1.0 / (t->mask ? valid : elements);   /* the port divides by the mask's own sum: 4 x a mean */
    if (!t->prior)
        mean /= 2;                                      /* both rows are instances */
    if (!instance)
        mean = t->prior_weight / elements;
    return (float)(mean / (double)t->accumulate);
}

static int fill(void *arg, int i, step_sample *x, err *e)
{
    const drawn *d = arg;
    int64_t step = d->from + i / 2, at = step * 2 + i % 2, map = d->h * d->w;
    bool instance = i % 2 == 0 || !d->t->prior;

    (void)e;
    memcpy(x->latents, d->latents + at * map * d->c, (size_t)(map * d->c) * sizeof(float));
    memcpy(x->given, d->noise + at * map * d->c, (size_t)(map * d->c) * sizeof(float));
    memcpy(x->ids, d->ids + at * TOKENS, TOKENS * sizeof(int32_t));
    for (int64_t p = 0; p < map; p++)
        x->mask[p] = instance && d->t->mask ? d->masks[step * map + p] : 1;
    x->timestep = d->timesteps[at];
    x->weight = weight_of(d, instance, x->mask);
    return 0;
}

/* ---- running and handing in ---- */

typedef struct { float *losses, *instance, *prior, *norms, *rows; int64_t width; } told;

static void tell_losses(const trajectory *t, const step_result *r, int64_t update, told *to)
{
    for (int64_t a = 0; a < t->accumulate; a++) {
        int64_t at = update * t->accumulate + a;
        float x = r->losses[2 * a] * (float)t->accumulate, y = r->losses[2 * a + 1] * (float)t->accumulate;
        to->losses[at] = x + y;
        to->instance[at] = x;
        to->prior[at] = t->prior ? y / (float)t->prior_weight : 0;
    }
    to->norms[update] = (float)r->grad_norm;
}

static int run(sd *m, stepper *s, const trajectory *t, drawn *d, told *to, err *e)
{
    for (int64_t u = 0; u < t->steps / t->accumulate; u++) {
        step_result r;
        d->from = u * t->accumulate;
        TRY(step_run(s, (uint64_t)u + 1, &t->adam, fill, d, &r, e));
        tell_losses(t, &r, u, to);
        if (t->row)
            TRY(nn_params_get(sd_params(m), SD_MODIFIER, to->rows + u * to->width, (size_t)to->width, e));
    }
    return 0;
}

static void put(golden *g, const trajectory *t, const char *what, const float *data, size_t n)
{
    str name = {0};

    str_add(&name, "%s/%s", t->name, what);
    golden_put(g, name.at, data, n);
    str_free(&name);
}

/* Every parameter's final value, and how far each of the UNet's moved, in the order the JSON gives. */
static int put_weights(golden *g, sd *m, const trajectory *t, err *e)
{
    static const char *const place[][2] = {{"unet.", "final/"}, {"text_encoder.", "final_text/"}};
    nn_params *p = sd_params(m);
    const char *name;
    int rc = 0;

    for (size_t i = 0; rc == 0 && (name = nn_params_name(p, i)) != NULL; i++)
        for (int part = 0; part < 2; part++) {
            str entry = {0};
            nn_shape s;
            if (str_starts(name, place[part][0]))
                str_add(&entry, "%s/%s%s", t->name, place[part][1], name + strlen(place[part][0]));
            if (entry.at && golden_wants(g, entry.at) && (rc = nn_params_shape(p, name, &s, e)) == 0) {
                float *now = NEW_N(float, nn_count(s));
                rc = nn_params_get(p, name, now, (size_t)nn_count(s), e);
                golden_put(g, entry.at, now, (size_t)nn_count(s));
                free(now);
            }
            str_free(&entry);
        }
    return rc;
}

/* Rows of the token table that the prompts name: which, and their final values. */
static int put_used_rows(golden *g, sd *m, const trajectory *t, const drawn *d, err *e)
{
    int vocab = sd_text_shape(m)->vocab, width = sd_text_shape(m)->width;
    size_t all = (size_t)vocab * (size_t)width, n = 0;
    bool *used = NEW_N(bool, vocab);
    int32_t *ids = NEW_N(int32_t, vocab);
    float *table = NEW_N(float, all);
    str name = {0};
    int rc = nn_params_get(sd_params(m), "text_encoder.text_model.embeddings.token_embedding.weight", table, all, e);

    for (int64_t i = 0; i < t->steps * 2 * TOKENS; i++)
        if (d->ids[i] < vocab)
            used[d->ids[i]] = true;
    for (int32_t id = 0; id < vocab; id++)
        if (used[id]) {
            ids[n] = id;
            memmove(table + n++ * (size_t)width, table + (size_t)id * (size_t)width, (size_t)width * sizeof *table);
        }
    str_add(&name, "%s/used_ids", t->name);
    golden_put_i32(g, name.at, ids, n);
    if (rc == 0)
        put(g, t, "final_used_rows", table, n * (size_t)width);
    str_free(&name);
    free(used);
    free(ids);
    free(table);
    return rc;
}

/* How far one of the UNet's parameters moved. */
static int moved_by(float *out, sd *m, const char *param, err *e)
{
    str name = {0};
    nn_shape s;

    str_add(&name, "unet.%s", param);
    int rc = sd_file_shape(m, name.at, &s, e);
    if (rc == 0) {
        size_t n = (size_t)nn_count(s);
        float *now = NEW_N(float, n), *was = NEW_N(float, n);
        double sum = 0;
        rc = nn_params_get(sd_params(m), name.at, now, n, e);
        if (rc == 0)
            rc = sd_file_read(m, name.at, was, n, e);
        for (size_t i = 0; i < n; i++)
            sum += ((double)now[i] - (double)was[i]) * ((double)now[i] - (double)was[i]);
        *out = (float)sqrt(sum);
        free(now);
        free(was);
    }
    str_free(&name);
    return rc;
}

static int put_delta_norms(golden *g, sd *m, const trajectory *t, err *e)
{
    const json_t *order = json_object_get(golden_json(g, GOLDEN_TRAIN), "unet_parameter_order");
    size_t n = json_array_size(order);
    float *norms = NEW_N(float, n + 1);
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++)
        rc = moved_by(&norms[i], m, json_string_value(json_array_get(order, i)), e);
    if (rc == 0)
        put(g, t, "delta_norms", norms, n);
    free(norms);
    return rc;
}

static int check_one(golden *g, const trajectory *t, err *e)
{
    drawn d = {0};
    sd *m;
    comm *self = NULL;
    stepper *s = NULL;
    const char **moves = NULL;
    float *row0 = NULL;
    int n_moves;

    TRY(golden_sd(g, &m, e));
    int64_t width = sd_text_shape(m)->width;
    told to = {NEW_N(float, t->steps), NEW_N(float, t->steps), NEW_N(float, t->steps), NEW_N(float, t->steps),
               NEW_N(float, t->steps * width), width};
    int rc = read_drawn(g, t, &d, e);
    if (rc == 0 && t->row) {
        rc = golden_f32(g, "data/row0", &row0, NULL, e);
        if (rc == 0)
            rc = sd_text_rows_set(m, row0, 1, e);
    }
    if (rc == 0)
        rc = train_moves(m, t->how, &t->cfg, &moves, &n_moves, e);
    if (rc == 0) {
        step_opts o = {.moves = moves, .n_moves = n_moves, .batch = (int)(2 * t->accumulate), .micro = 1, .h = d.h, .w = d.w,
                       .detach_first = t->how->detach_first, .noise_given = true,
                       .table_decays = t->row && t->how->port_decays_table};
        sd_forget_plans(m);
        comm_self(&self, e);
        rc = step_new(&s, m, self, &o, e);
    }
    if (rc == 0)
        rc = run(m, s, t, &d, &to, e);
    if (rc == 0) {
        size_t steps = (size_t)t->steps, updates = (size_t)(t->steps / t->accumulate);
        put(g, t, "losses", to.losses, steps);
        put(g, t, "instance_losses", to.instance, steps);
        put(g, t, "prior_losses", to.prior, steps);
        put(g, t, "grad_norms", to.norms, updates);
        put(g, t, "row", to.rows, updates * (size_t)width);
        rc = put_weights(g, m, t, e);
        if (rc == 0)
            rc = put_delta_norms(g, m, t, e);
        if (rc == 0)
            rc = put_used_rows(g, m, t, &d, e);
    }
    step_free(s);
    comm_free(self);
    free_drawn(&d);
    free(row0);
    free(moves);
    void *all[] = {to.losses, to.instance, to.prior, to.norms, to.rows};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return rc;
}

int check_train(golden *g, err *e)
{
    const json_t *all = golden_json(g, GOLDEN_TRAIN);
    const char *name;
    json_t *row;

    json_object_foreach(json_object_get(all, "trajectories"), name, row)
    {
        trajectory t;
        str prefix = {0};
        TRY(read_trajectory(&t, name, row, all, e));
        str_add(&prefix, "%s/", name);
        bool wanted = golden_wants_any(g, prefix.at);
        str_free(&prefix);
        if (wanted && t.how && check_one(g, &t, e) != 0)
            return err_wrap(e, "trajectory %s", name);
    }
    return 0;
}
