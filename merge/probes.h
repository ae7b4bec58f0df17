#ifndef PROBES_H
#define PROBES_H
/* What a merged file keeps of its images besides themselves: their inner products with a few fixed random signs, matrix by matrix,
 * from which lengths and inner products of any combinations of them follow about, and without reading them:
 *     |E x|^2 is |G x|^2, <E x, E y> is <G x, G y>, G = S E / sqrt(n), S [n, outs of the matrix] of -1 and 1,
 * without bias and with a variance of at most 2/n |E x|^2 |E y|^2. Matrices of at most n outputs are kept as they are. */
#include "data/concept.h"

enum { PROBES = 16 }; /* a matrix */

int probes_of(const concept_matrix *m);                    /* how many there are of this one */
int probes_count(const concept_matrix matrix[], int n);    /* of all */
/* seen [rows, probes_count] of images [rows, outs of all matrices]. */
void probes_see(float *seen, const float *image, int rows, const concept_matrix matrix[], int n);
#endif
