#ifndef PARTS_H
#define PARTS_H
/* The three files of weights of a model folder. Of an open model sd_file has them. */
#include "data/safetensors.h"
#include "trainer/model/single.h"

typedef struct {
    safetensors *file[SD_PARTS];
} parts;

int parts_open(parts *out, const char *dir, err *e);
void parts_close(parts *p);
#endif
