#ifndef FINDINGS_TOY_H
#define FINDINGS_TOY_H
/* What the findings need of the captioned world (data/toyworld/world.h): its subjects as folders of pictures, a net that
 * finds them in pictures, and two concepts laid over each other the naive way. */
#include "cluster/base/err.h"

/* DIR/subjects/NAME/, DIR/regularisation/NAME/: a subject's own pictures; others of its class; captions.txt in each. A row of
 * DIR/names.tsv: a subject's name, its class, its colour. */
int findings_world(const char *dir, err *e);

/* The finder: for each subject, whether it is in the picture; for each class, whether a thing of it is. It learns from the
 * painter's truth, subjects beside other things and beside near misses (the class and colours of a subject without its marks). */
int findings_learn(const char *file, int steps, err *e);
/* What it finds in each picture: a line of JSON a picture, on the standard output. */
int findings_find(const char *file, char *const picture[], int n, err *e);
/* On pictures it never saw: shares of right answers, as JSON. */
int findings_exam(const char *file, int pictures, err *e);

/* What the examiner of a model (trainer/scratch/scratch.h) sees in each picture, as findings_find tells: things by colour and class, and the place. */
int findings_tell(const char *examiner, char *const picture[], int n, err *e);

/* Kernel inception distance between two folders of pictures, on a CLIP's features. */
int findings_kid(const char *clip, const char *folder, const char *against, err *e);

/* W0 + (W1 - W0) + (W2 - W0) for every matrix, and the words of both: what a merge would be without its constraints. */
int findings_add(const char *base, const char *one, const char *other, const char *out, err *e);
#endif
