#ifndef COMPOSE_IMPL_H
#define COMPOSE_IMPL_H
/* Between words.c, rows.c and compose.c. */
#include "merge/compose.h"

/* What each file's tokens are called in the merged one: word[i][t] for in[i].tokens[t]. */
typedef struct {
    int n;
    char ***word;
    int *n_words;
} words;
int words_choose(words *out, const concept in[], const char *const file[], int n, const compose_opts *o, err *e);
void words_free(words *w, const concept in[]);
/* text with every word of in[i] replaced by its new one; free() it. */
char *words_in(const words *w, const concept in[], int i, const char *text);

/* Target rows of all concepts behind each other, the fixed first token in front. */
typedef struct {
    int s, fixed, width; /* s rows in all */
    double *k;           /* [s, width] */
    int n;               /* s - fixed */
    int *from, *at;      /* [n] which concept's which card row */
    char **label, **key; /* [n] with the new words */
    int *shared;         /* [concepts] rows left out because an earlier concept asks for them */
} rows;
int rows_gather(rows *out, const concept in[], const char *const file[], int n, const words *w, const features *f,
                const compose_opts *o, err *e);
void rows_free(rows *r);
#endif
