#ifndef COLLAGE_H
#define COLLAGE_H
/* Cut-Mix (Han et al., "SVDiff", ICCV 2023, section 3.3): now and then a sample shows two subjects side by side, the one
 * picture's middle on the left half and the other's on the right, and its caption names both, so that a model taught
 * several subjects jointly learns to keep them apart. Pictures of their classes are joined in the same way. */
#include "data/subject.h"

typedef struct collage collage;
/* The captions of every pair of subjects. */
int collage_open(collage **out, const data_cfg *c, err *e);
void collage_close(collage *k);

/* form 0: "photo of a <a> dog on the left and a <b> vase on the right"; 1: "photo of a <b> vase and a <a> dog". prior: with the
 * class words alone. */
enum { COLLAGE_FORMS = 2 };
const char *collage_caption(const collage *k, bool prior, int left, int right, int form);
/* left, right [side, side, 3]: left becomes the collage. */
void collage_join(float *left, const float *right, int side);
#endif
