#ifndef DATA_KIT_H
#define DATA_KIT_H
/* What the tests of data/ share: a folder of their own, pictures, settings from YAML, and a small vocabulary. Each
 * function fails the test when it cannot do its part. */
#include "data/subject.h"

int kit_open(void **state);     /* group setup and teardown: the folder comes and goes */
int kit_close(void **state);
const char *kit_source(void);                                      /* the repository */
const char *kit_path(const char *name);                            /* in the folder; one of eight turning buffers */
void kit_bytes(const char *name, const void *at, size_t n);        /* makes folders on the way */
void kit_text(const char *name, const char *text);
void kit_picture(const char *name, int h, int w, unsigned seed);   /* a PNG */
void kit_pictures(const char *folder, int n, int h, int w, unsigned seed); /* folder/0.png, 1.png, ... */

/* Settings as a farm file has them; their root is the folder. They live until kit_close. */
const data_cfg *kit_cfg(const char *yaml);
int kit_cfg_try(const data_cfg **out, const char *yaml, err *e);
/* A tokenizer of single letters, "dog", "cat", and, when rare, "ktn", "pll" and "ucd". Close it. */
tokenizer *kit_tokenizer(bool rare);
#endif
