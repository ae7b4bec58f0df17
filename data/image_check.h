#ifndef IMAGE_CHECK_H
#define IMAGE_CHECK_H
/* Whether pictures can be decoded whole, each path decoded once however many concepts use it: what a plan asks. */
#include "data/image.h"

typedef struct image_checks image_checks;
image_checks *image_checks_new(void);
void image_checks_free(image_checks *c);
/* id tells paths apart. Paths found whole before are not opened again. */
int image_check(image_info *out, image_checks *c, uint64_t id, const char *path, err *e);
#endif
