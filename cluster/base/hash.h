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

/* HMAC-SHA256 under one key, message after message. */
enum { HASH_MAC = 32 };
typedef struct hash_mac hash_mac;
hash_mac *hash_mac_new(const void *key, size_t n);
void hash_mac_free(hash_mac *m);
void hash_mac_add(hash_mac *m, const void *bytes, size_t n);
void hash_mac_end(hash_mac *m, unsigned char out[HASH_MAC]); /* the next message begins */

uint32_t hash_crc32(uint32_t start, const void *bytes, size_t n); /* start 0 */
#endif
