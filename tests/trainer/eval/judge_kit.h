#ifndef JUDGE_KIT_H
#define JUDGE_KIT_H
/* Measuring models with looked-up weights, from the lists that tests/reference/eval_oracle.py writes of the public
 * layouts; and the pictures it shows them. */
#include "data/image.h"

/* TO/config.json (where the list has one), TO/model.safetensors, and for CLIP the vocabulary of small_model.h. list: a
 * folder with weights.tsv. Fails the test when it cannot. */
void judge_kit_make(const char *to, const char *list);
/* The picture of eval_oracle.py; image_free it. */
image judge_kit_picture(int h, int w);
#endif
