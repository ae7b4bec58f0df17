#ifndef CERTIFICATE_H
#define CERTIFICATE_H
/* What a merge promises, in figures and in a sentence: written into the file and told on the terminal. */
#include <stdio.h>

#include "cluster/base/json.h"
#include "merge/lsq.h"

typedef struct {
    char *name;       /* of the concept's file */
    char *words;      /* "<new1>" or "<new1> as <new2>" */
    int rows, shared; /* target rows; of them those an earlier concept already asks for, kept as that one has them */
    double before, after; /* |W k - v| / |v| over its own rows: of the base model, and of the merged one */
} certificate_concept;

typedef struct {
    int n;
    certificate_concept *concept;
    lsq_reason reason;
    bool bos_fixed;
    bool bank; /* concepts beside an unchanged base: drift is 0, drift_worst that of one concept alone */
    int used, available; /* rank: target rows of the dimensions of the text features */
    double condition, caption_condition;
    double miss, kkt, ridge;
    double drift, drift_held; /* |(W - W0) R'| / |W0 R'| over all matrices; held: < 0 where nothing was held out */
    double drift_worst;
    double drift_doubt; /* what may be wrong of drift, a standard deviation; 0: nothing */
    double *moved; /* [matrices + 1] as concept_factors.moved; NULL of a bank */
    char *worst; /* the matrix with the largest drift */
    char **shared; /* [n_shared] rows that an earlier concept asks for, too: which, of whom, and as whose they are kept */
    int n_shared;
    char *nearest; /* the row that the others nearly span, and of whom; NULL: not looked for */
    double own;    /* the share of it that is its own */
    int captions, held;
    char verdict[400];
} certificate;

void certificate_free(certificate *c);
/* Fills in the verdict. ERR_INPUT where the merge does not do what it says, or changes the base by more than all it had
 * (unless accept_drift): the text says what would help. */
int certificate_judge(certificate *c, bool accept_drift, err *e);
char *certificate_json(const certificate *c);               /* free() it */
void certificate_show(FILE *to, const json_t *certificate); /* as a table */
#endif
