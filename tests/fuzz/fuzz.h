#ifndef FUZZ_H
#define FUZZ_H
/* One target a file: any bytes go in, and the sanitizers, a CHECK or a hang tell. The same file links with libFuzzer
 * (CFARM_FUZZ) or with corpus.c, which feeds it the committed inputs. */
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* 0 */

/* A path under which these bytes can be read, until the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);
/* What a reader reads is touched, so that a pointer out of bounds is seen. */
void fuzz_touch(const void *bytes, size_t n);
#endif
