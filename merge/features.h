#ifndef FEATURES_H
#define FEATURES_H
/* What a merge shall leave as it was: the base model's text features of ordinary captions, as two factors
 * (merge/lsq.h), one of the captions that are kept and one of captions held out, to see what happens to words nobody
 * asked for. They depend on the base model and the captions alone, so they are made once and kept in a checksummed HDF5
 * file (5 MB). */
#include "cluster/base/fs.h"
#include "data/concept.h"
#include "merge/lsq.h"
#include "trainer/model/sd.h"

typedef struct {
    char base[HASH_HEX];       /* fingerprint of the base model */
    char captions[HASH_HEX];   /* of the list they were made from (captions_hash) */
    int width, n_keep, n_held; /* of the features; captions kept and held out */
    lsq_factor keep, held;
    float *bos; /* [width]: the first token's feature */
    int matrices;
    concept_matrix *matrix; /* K/V matrices of the base */
    double *keep_norm;      /* [matrices] |W0 R'|_F: what a drift is measured against */
    double *held_norm;
} features;

/* The lines of a caption file, trimmed, empty ones left out; path NULL: the list this program carries (our own
 * writing, 1,250 lines). At least one. Free with captions_free. */
int captions_read(char ***out, int *n, const char *path, err *e);
void captions_free(char **captions);
void captions_hash(char hex[HASH_HEX], char *const captions[], int n);

/* Every tenth caption is held out where there are 50 or more. told: called now and then with captions done, or NULL. */
int features_make(features *out, sd *m, char *const captions[], int n, void (*told)(void *arg, int done, int n),
                  void *arg, err *e);
void features_free(features *f);
int features_read(features *out, const char *path, err *e);
int features_write(const char *path, const features *f, err *e);

/* Where they are kept unless told otherwise: $XDG_CACHE_HOME/conceptfarm (or ~/.cache), named by base and captions. */
int features_path(char out[FS_PATH], const char *base, const char *captions, err *e);
#endif
