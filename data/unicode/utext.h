#ifndef UTEXT_H
#define UTEXT_H
/* Text as code points, one uint32_t each, that grows; and UTF-8 in and out of it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/str.h"

enum { UTEXT_LOST = 0xFFFD }; /* stands for bytes that are no UTF-8 */
typedef struct {
    uint32_t *at;
    size_t n, room;
} utext; /* utext t = {0}; ... utext_free(&t); */

void utext_put(utext *t, uint32_t c);
void utext_add(utext *t, const uint32_t *at, size_t n);
void utext_free(utext *t);                              /* and {0} again */
void utext_swap(utext *a, utext *b);
bool utext_same(const utext *a, const utext *b);

/* One character of n > 0 bytes: its length, *c set; 0 when they are no UTF-8, *bad (if wanted) then says how many
 * of them go together as one mistake (Unicode 14, 3.9, "substitution of maximal subparts"). */
size_t utf8_step(const unsigned char *at, size_t n, uint32_t *c, size_t *bad);
/* Appends n bytes of UTF-8; each mistake becomes one UTEXT_LOST. */
void utext_add_utf8(utext *t, const char *bytes, size_t n);
void utext_to_utf8(const uint32_t *at, size_t n, str *out); /* appends */
#endif
