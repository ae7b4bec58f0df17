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
char *words_told(const words *w, const concept in[], int i); /* "<new1>, <new1> as <new2>"; free() it */
/* What the merged file says of where it comes from: everything but weights, factors, bank and certificate. Takes recipe. */
void compose_fill(concept *out, const concept in[], const char *const file[], int n, const words *w, const features *f,
                  char *recipe);
concept_matrix *compose_matrices(const features *f, int64_t *outs);
double compose_norm(const double *norm, int n); /* of all matrices together */
/* text with every word of in[i] replaced by its new one; free() it. */
char *words_in(const words *w, const concept in[], int i, const char *text);

/* Target rows of all concepts behind each other, the fixed first token in front. */
typedef struct {
    int s, fixed, width; /* s rows in all */
    double *k;           /* [s, width] */
    int n;               /* s - fixed */
    int *from, *at;      /* [n] which concept's which card row */
    char **label, **key; /* [n] with the new words */
    int *order;          /* [n] the rows by key */
    int *shared;         /* [concepts] rows left out because an earlier concept asks for them */
    struct twice {
        char *label; /* of such a row */
        int from, as; /* whose it is; whose stands for it */
    } *twice;        /* [n_twice] */
    int n_twice;
} rows;
int rows_check(const concept *c, const features *f, err *e); /* whether a merge can take it at all */
int rows_gather(rows *out, const concept in[], const char *const file[], int n, const words *w, const features *f,
                const compose_opts *o, err *e);
void rows_free(rows *r);

/* What does not depend on how it was solved: the certificate's names and figures of r; k, keys, right and all but left and
 * moved of the factors; the recipe. */
void compose_told(certificate *c, const concept in[], const char *const file[], int n, const words *w, const rows *r,
                  const features *f, const lsq_report *report);
void compose_factors(concept_factors *out, const concept in[], const rows *r, const features *f, double *p); /* takes p */
char *compose_recipe(const rows *r, const features *f, bool relaxed, double ridge);
/* moved [matrices + 1] as c->moved: takes it and sets the drifts. */
void compose_drift(certificate *c, const features *f, double *moved);
#endif
