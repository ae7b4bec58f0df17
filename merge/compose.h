#ifndef COMPOSE_H
#define COMPOSE_H
/* Several concepts become one, from their merge cards alone: no model, no 77 MB matrices. README.md has the algebra. */
#include "data/concept.h"
#include "merge/certificate.h"
#include "merge/features.h"

typedef struct {
    const char *old, *now; /* "<new1>" becomes "<rex>" */
    int from;              /* in which of the files */
} compose_name;

typedef struct {
    bool bos_free;     /* as published; otherwise the first token keeps its keys and values */
    bool relax;        /* target rows may be missed where they conflict, or where the base would drift too far */
    double ridge;      /* with relax: its weight; 0: none where the exact merge drifts by at most drift_most on the
                          captions, else the smallest that keeps that */
    double drift_most; /* a share */
    bool accept_drift; /* a drift beyond 100 % is told and not refused */
    const compose_name *names;
    int n_names;
    const double *weight; /* [n] how much of each concept's update is wanted; NULL: all of every one */
} compose_opts;

/* in[i] with its card read; file[i] its name for people. out gets tokens, factors, sources and certificate; its full
 * matrices are fuse()'s affair. Words that clash are renamed to the next free <newN>, the later file's, unless
 * opts.names has a wish. ERR_INPUT, with the concept and the word, where concepts stand on different bases, have no
 * card, hold what is not finite, ask for the same words, or conflict and may not be relaxed. */
int compose(concept *out, certificate *told, const concept in[], const char *const file[], int n, const features *f,
            const compose_opts *o, err *e);

/* The same from a merged file that stands for some of them, by as many rows as come and go instead of a solve anew
 * (lsq_update): right factors to 1e-10, drifts about (certificate.drift_doubt). No image of the merged file is read, and out's
 * factors.left has only those of its rows that come of elsewhere (concept_renew; again_whole). *why: NULL, or a sentence about why
 * compose() must be asked; then out and told are empty. */
typedef struct {
    const concept *merged; /* read with CONCEPT_ROWS at least */
    const int *source;     /* [n] which of its sources in[i] is; -1: none, in[i].card has its images */
} compose_start;
int compose_again(concept *out, certificate *told, const char **why, const compose_start *start, const concept in[],
                  const char *const file[], int n, const features *f, const compose_opts *o, err *e);

/* The same concepts beside a base that stays as it is (data/concept.h, concept_share): exact for any number of them.
 * Takes the images out of in[].card. ERR_INPUT also where a concept has no word to be addressed by. */
int compose_bank(concept *out, certificate *told, concept in[], const char *const file[], int n, const features *f,
                 const compose_opts *o, err *e);

/* The base's value of a matrix, by its diffusers name. */
typedef int fuse_base(void *arg, const char *name, float *out, size_t count, err *e);

/* The merged K/V matrices in full: W0 + left right for every K/V matrix of the base, checked again after rounding to
 * f32 against the cards' rows. Appends to out->tensors. */
int fuse(concept *out, const concept in[], int n, fuse_base *base, void *arg, err *e);
#endif
