#ifndef SUMS_H
#define SUMS_H
/* Concepts whose files add up: shifts of singular values tensor by tensor, learned words side by side. No base model and
 * nothing to solve; what the sum says of each subject alone is not promised, as it is by a merge card. */
#include <stdio.h>

#include "merge/compose.h"

/* in[i] with its tensors read; all of one method and one base. Words that clash are renamed as in compose. ERR_INPUT where
 * shapes differ (svdiff.norms), a number is not finite, or two subjects go by one identifier and class. */
int sums(concept *out, const concept in[], const char *const file[], int n, const compose_opts *o, err *e);
void sums_tell(FILE *to, const concept *merged);
#endif
