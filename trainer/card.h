#ifndef CARD_H
#define CARD_H
/* The merge card (data/concept.h): which text features a concept's merge is tied to, and where its own change of the
 * K/V matrices sends them. Made once, by training or import, while model and words are at hand; a merge then needs
 * neither.
 *
 * Which rows: of the prompts "<new1> cat" and "photo of a <new1> cat" every position from the second to the first end
 * token, both included; where "photo of a" stands within the first 15 characters, from the fifth on. That is the
 * recipe as first released (Kumari et al. 2023; 6 rows for a one-word class, 8 for two words). Where the class is art
 * (a word of its own: the published test also hit "cart") the second prompt is "painting in the style of ...". */
#include "data/concept.h"
#include "data/tokenizer.h"
#include "trainer/model/sd.h"

typedef enum {
    CARD_RELEASED, /* as above */
    CARD_AUTHORS   /* the published program since 2023: "a photo of <new1> cat", all positions from the second on */
} card_rows;

typedef struct {
    card_rows rows;
    const char *class_word; /* for a concept without a token; NULL: such a concept has no card */
    const char *const *templates; /* [n_templates] in place of the two prompts: "photo of a {}", {} being "<new1> cat" */
    int n_templates;
} card_opts;
int card_check_template(const char *text, err *e); /* one {} is wanted */

/* The positions of a text that count. */
typedef struct {
    int32_t id[TOKENS];
    int first, end; /* both included; end is the first end token */
} card_span;
void card_span_of(card_span *out, const tokenizer *t, const char *text);

/* Appends the rows of one prompt: label, key and k. A row whose token prefix is there already is left out, for the
 * text encoder is causal: same prefix, same feature. words: spelling of the modifier tokens, ids vocab, vocab+1, ....
 * The model must hold their embeddings (sd_text_rows_set). out->width is set by the first. */
int card_add_prompt(concept_card *out, sd *m, const tokenizer *t, const char *const words[], int n_words,
                    const char *prompt, err *e);

/* The images of a card's rows, and its list of matrices: for whoever brings the rows. */
int card_images(concept_card *card, const concept *c, const sd *m, err *e);

/* The whole card of c. m holds the rows of c's tokens, in c's order, as modifiers; its weights may be overridden or in
 * training: the base's are taken from its file. out->n is 0 where no merge of c is defined: it moved more than K/V
 * matrices, or has neither token nor class word. */
int card_make(concept_card *out, const concept *c, sd *m, const card_opts *o, err *e);
#endif
