#ifndef FACTORS_H
#define FACTORS_H
/* The low-rank factors in a concept file, layer by layer: for those who write them under other names. */
#include "data/concept.h"
#include "trainer/method/method.h"

#define FACTORS_DOWN ".lora_A.weight"
#define FACTORS_UP ".lora_B.weight"
#define FACTORS_ALPHA ".alpha"
enum { FACTORS_NAME = 512 };
typedef struct {
    char layer[FACTORS_NAME];                /* "down_blocks.….attn2.to_k", "text_encoder.text_model.….q_proj" */
    const concept_tensor *down, *up;         /* A [r, in], B [out, r]: W + alpha/r B A */
    float alpha;
} factors;
/* The pair whose B is tensor `at`; false where that is none. */
bool factors_find(factors *out, const concept *c, int at);
#endif
