#ifndef COMPOSE_KIT_H
#define COMPOSE_KIT_H
/* What tests of merging from cards share: no model is needed, cards and the captions' features are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "merge/compose.h"

enum { D = 24, OUT = 5, MATRICES = 3, ROWS = 3, MOST = 9 };
extern const char *const names[MATRICES], *const files[MOST]; /* of matrices; of concepts' files, which are not there */

float *normals(const char *purpose, uint32_t which, size_t n, float scale); /* [n] times scale; free() */
/* A base whose captions are n random rows and whose matrices have rows of length about 1. */
features make_base(int n);
/* A concept whose word `id` has ROWS random features and whose matrices moved by `scale`. */
concept make_concept(const features *f, uint32_t id, const char *word, float scale);
void free_all(concept *c, int n);
/* What the merged update makes of a row: left' (right k)  [MATRICES OUT] */
void say(double *out, const concept *merged, const float *k);
/* Of what is said of a concept's row from what it said alone. */
double distance_to(const concept *merged, const concept *c, int row);
#endif
