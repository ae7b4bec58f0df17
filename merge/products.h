#ifndef PRODUCTS_H
#define PRODUCTS_H
/* The authors' compressed deltas: W = W0 + u v. Collected piece by piece, multiplied at the end. */
#include "data/concept.h"
#include "data/safetensors.h"
#include "trainer/model/sd.h"

typedef struct products products;
products *products_new(const sd *base);
void products_free(products *p); /* NULL is fine */
/* name: the weight's. */
int products_put(products *p, const char *name, bool is_u, const st_tensor *t, err *e);
int products_finish(products *p, concept *out, err *e);
#endif
