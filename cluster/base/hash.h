#ifndef CF_HASH_H
#define CF_HASH_H
/* SHA-256 (libcrypto) for content addresses and fingerprints; CRC-32 (zlib) for records and frames. */
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

enum { HASH_HEX = 65 }; /* 64 hexadecimal digits and a terminator */

typedef struct hash hash;
hash *hash_new(void);
void hash_add(hash *h, const void *bytes, size_t n);
void hash_end(hash *h, char hex[HASH_HEX]); /* frees it */

void hash_bytes(const void *bytes, size_t n, char hex[HASH_HEX]);
int hash_file(const char *path, char hex[HASH_HEX], err *e);
uint32_t hash_crc32(uint32_t start, const void *bytes, size_t n); /* start 0 */
#endif
