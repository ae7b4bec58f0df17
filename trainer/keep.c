#include "trainer/keep.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "trainer/card.h"

/* What moved: the UNet's in the names diffusers has for it, the text encoder's with the part's name before. New
 * words' rows are tokens. */
static int keep_weights(concept *c, const keep_job *k, err *e)
{
    nn_params *p = sd_params(k->model);
    const char *name;

    for (size_t i = 0; (name = nn_params_name(p, i)) != NULL; i++) {
        nn_shape s;
        bool moved = k->how->moves && k->how->moves(name, &k->cfg->how);
        if (!moved && !(k->how->kept && k->how->kept(name)))
            continue;
        TRY(nn_params_shape(p, name, &s, e));
        concept_tensor *t = concept_add_tensor(c, method_tensor(name), s.d[0], s.n == 1 ? 0 : nn_count(s) / s.d[0], NULL);
        TRY(nn_params_get(p, name, t->data, (size_t)nn_count(s), e));
    }
    return 0;
}

static int keep_words(concept *c, const keep_job *k, err *e)
{
    float *row = NEW_N(float, c->width);
    int rc = 0;

    for (int i = 0; i < k->n_words && rc == 0; i++) {
        const char *class_word = data_subject(&k->cfg->data, k->word[i].subject)->class_word;
        rc = sd_text_row(k->model, k->word[i].id, row, e);
        concept_add_token(c, k->word[i].word, class_word, k->word[i].start, row);
    }
    free(row);
    return rc;
}

/* What a merge will ask of this concept, while the text encoder is at hand. */
static int keep_card(concept *c, const keep_job *k, err *e)
{
    card_opts o = {.rows = CARD_RELEASED, .class_word = data_subject(&k->cfg->data, 0)->class_word};

    return k->how->merges == MERGE_CARDS ? card_make(&c->card, c, k->model, &o, e) : 0;
}

/* The chosen ones, by subject; "": has none, or was given one. */
static void add_identifiers(json_t *to, const data_cfg *d)
{
    json_t *list = json_array();
    bool any = false;

    for (int i = 0; i < data_subjects(d); i++) {
        any = any || data_chosen(d, i)[0];
        json_array_append_new(list, json_string(data_chosen(d, i)));
    }
    if (any)
        json_object_set(to, "identifiers", list);
    json_decref(list);
}

/* What decided the numbers, as far as the settings do not say it. */
static char *recipe_of(const keep_job *k)
{
    const train_cfg *how = &k->cfg->how;
    json_t *o = json_pack("{s:s s:s s:i s:f s:f s:i s:i s:s}", "program", "conceptfarm " CFARM_VERSION, "method", k->how->name,
                          "steps", (int)how->steps, "lr", how->lr, "clip", how->clip, "batch", data_batch(&k->cfg->data),
                          "leaves", k->leaves, "compute", how->compute == COMPUTE_BF16 ? "bf16" : "f32");
    add_identifiers(o, k->data);
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);

    json_decref(o);
    return text;
}

static int fill_concept(concept *c, const keep_job *k, err *e)
{
    char base[HASH_HEX];

    TRY(sd_fingerprint(k->model, base, e));
    c->kind = CONCEPT_SINGLE;
    c->method = mem_text(k->how->name);
    c->base = mem_text(base);
    c->base_path = mem_text(sd_dir(k->model));
    c->created = mem_text("");   /* no clock's time: the same training gives the same bytes */
    c->recipe = recipe_of(k);
    c->settings = mem_text(k->settings ? k->settings : "");
    c->seed = (uint64_t)k->cfg->how.seed;
    c->width = sd_text_shape(k->model)->width;
    TRY(keep_weights(c, k, e));
    TRY(keep_words(c, k, e));
    TRY(keep_card(c, k, e));
    c->history.n = k->history->n;
    c->history.loss = mem_copy(k->history->loss, (size_t)k->history->n * sizeof(float));
    c->history.lr = mem_copy(k->history->lr, (size_t)k->history->n * sizeof(float));
    c->history.grad_norm = mem_copy(k->history->grad_norm, (size_t)k->history->n * sizeof(float));
    return 0;
}

int keep_concept(const char *path, const keep_job *k, err *e)
{
    concept c = {0};
    int rc = fill_concept(&c, k, e);

    if (rc == 0)
        rc = concept_write(path, &c, e);
    concept_free(&c);
    return rc;
}
