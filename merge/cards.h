#ifndef CARDS_H
#define CARDS_H
/* The rows that a merge holds a concept to, chosen by the user: its card made from its own matrices and the base model. */
#include "configs/cfg.h"
#include "data/concept.h"
#include "trainer/card.h"
#include "trainer/model/sd.h"

typedef struct {
    int rows; /* card_rows */
    cfg_texts templates;
} cards_cfg;
extern const char *const cards_rows[]; /* names of card_rows */
#define CARDS_ROWS(type, at)                                                                                                \
    {"rows", CFG_CHOICE, CFG_AT(type, at.rows), "released", .names = cards_rows,                                             \
     .help = "which words' features a concept is held to: released: those of \"<new1> cat\" and of \"photo of a <new1> "     \
             "cat\" from <new1> on (6; 8 of a class of two words); authors: all of \"<new1> cat\" and \"a photo of <new1> "  \
             "cat\", as the published program since 2023"},                                                                 \
    {                                                                                                                       \
        "template", CFG_TEXTS, CFG_AT(type, at.templates), "",                                                               \
            .help = "\"photo of a {}\": the prompts it is held to in place of those two, with {} for its word and class; "   \
                    "may be given again"                                                                                    \
    }

bool cards_are_usual(const cards_cfg *set);
int cards_check(const cards_cfg *set, err *e);
/* Of c, whose tensors are there; class_word: of a concept without a token, or NULL. The old card is freed. */
int cards_make(concept *c, sd *m, const cards_cfg *set, const char *class_word, err *e);
/* Of c as it was read from path without its tensors; class_word: its class from now on; NULL: as it has it. */
int cards_remake(concept *c, const char *path, sd *m, const cards_cfg *set, const char *class_word, err *e);
#endif
