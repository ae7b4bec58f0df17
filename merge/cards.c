#include "merge/cards.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

const char *const cards_rows[] = {[CARD_RELEASED] = "released", [CARD_AUTHORS] = "authors", NULL};

bool cards_are_usual(const cards_cfg *set)
{
    return set->rows == CARD_RELEASED && set->templates.n == 0;
}

int cards_check(const cards_cfg *set, err *e)
{
    if (set->rows != CARD_RELEASED && set->templates.n > 0)
        return err_set(e, ERR_INPUT, "--template says which prompts, and so does --rows; give one of them");
    for (size_t i = 0; i < set->templates.n; i++)
        if (card_check_template(set->templates.at[i], e) != 0)
            return err_wrap(e, "--template");
    return 0;
}

int cards_make(concept *c, sd *m, const cards_cfg *set, const char *class_word, err *e)
{
    card_opts o = {.rows = (card_rows)set->rows, .class_word = c->n_tokens == 0 ? class_word : NULL,
                   .templates = (const char *const *)set->templates.at, .n_templates = (int)set->templates.n};
    float *rows = NEW_N(float, (size_t)c->n_tokens *(size_t)c->width + 1);
    int rc;
    for (int i = 0; i < c->n_tokens; i++)
        memcpy(rows + (size_t)i * (size_t)c->width, c->tokens[i].row, (size_t)c->width * sizeof *rows);
    concept_card_free(&c->card);
    c->card = (concept_card){0};
    rc = sd_text_rows_set(m, rows, c->n_tokens, e);
    if (rc == 0)
        rc = card_make(&c->card, c, m, &o, e);
    free(rows);
    return rc;
}

static int give_class(concept *c, const char *word, err *e)
{
    if (c->n_tokens == 0 && !word)
        return err_set(e, ERR_INPUT, "has no word of its own; --class NAME=WORD says what it is");
    if (c->n_tokens > 1 && word)
        return err_set(e, ERR_INPUT, "has %d words; --class is for a concept of one", c->n_tokens);
    if (c->n_tokens == 1 && word) {
        free(c->tokens[0].class_word);
        c->tokens[0].class_word = mem_text(word);
    }
    return 0;
}

static void swap_tensors(concept *a, concept *b)
{
    const concept was = *a;

    a->tensors = b->tensors;
    a->n_tensors = b->n_tensors;
    b->tensors = was.tensors;
    b->n_tensors = was.n_tensors;
}

/* Its matrices are needed once, for the images of the rows. */
int cards_remake(concept *c, const char *path, sd *m, const cards_cfg *set, const char *class_word, err *e)
{
    concept whole;

    TRY(give_class(c, class_word, e));
    TRY(concept_read(&whole, path, CONCEPT_TENSORS, e));
    swap_tensors(c, &whole);
    int rc = cards_make(c, m, set, class_word, e);
    swap_tensors(c, &whole);
    concept_free(&whole);
    return rc;
}
