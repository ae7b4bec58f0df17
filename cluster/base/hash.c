/* SHA-256 and HMAC by libcrypto, CRC-32 by zlib. SHA-256 by its old names, which need no provider: setting up the first one took
 * a short program 2 ms. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "cluster/base/hash.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"

struct hash {
    SHA256_CTX sha;
};

hash *hash_new(void)
{
    hash *h = NEW(hash);
    CHECK(SHA256_Init(&h->sha) == 1);
    return h;
}

void hash_add(hash *h, const void *bytes, size_t n)
{
    CHECK(SHA256_Update(&h->sha, bytes, n) == 1);
}

void hash_end(hash *h, char hex[HASH_HEX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[SHA256_DIGEST_LENGTH];
    CHECK(SHA256_Final(sum, &h->sha) == 1);
    for (size_t i = 0; i < sizeof sum; i++) {
        hex[2 * i] = digits[sum[i] >> 4];
        hex[2 * i + 1] = digits[sum[i] & 15];
    }
    hex[HASH_HEX - 1] = '\0';
    free(h);
}

void hash_bytes(const void *bytes, size_t n, char hex[HASH_HEX])
{
    hash *h = hash_new();
    hash_add(h, bytes, n);
    hash_end(h, hex);
}

int hash_file(const char *path, char hex[HASH_HEX], err *e)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(e, ERR_IO, "%s: cannot open: %s", path, fs_reason(errno));
    hash *h = hash_new();
    static _Thread_local unsigned char buf[1 << 16];
    size_t n;
    while ((n = fread(buf, 1, sizeof buf, f)) > 0)
        hash_add(h, buf, n);
    int failed = ferror(f) ? errno : 0;
    fclose(f);
    hash_end(h, hex);
    return failed ? err_set(e, ERR_IO, "%s: cannot read: %s", path, fs_reason(failed)) : 0;
}

struct hash_mac {
    EVP_MAC *kind;
    EVP_MAC_CTX *at;
};

hash_mac *hash_mac_new(const void *key, size_t n)
{
    hash_mac *m = NEW(hash_mac);
    char digest[] = "SHA256";
    OSSL_PARAM how[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};

    m->kind = EVP_MAC_fetch(NULL, "HMAC", NULL);
    m->at = m->kind ? EVP_MAC_CTX_new(m->kind) : NULL;
    CHECK(m->at && EVP_MAC_init(m->at, key, n, how) == 1);
    return m;
}

void hash_mac_free(hash_mac *m)
{
    if (!m)
        return;
    EVP_MAC_CTX_free(m->at);
    EVP_MAC_free(m->kind);
    free(m);
}

void hash_mac_add(hash_mac *m, const void *bytes, size_t n) { CHECK(EVP_MAC_update(m->at, bytes, n) == 1); }

void hash_mac_end(hash_mac *m, unsigned char out[HASH_MAC])
{
    size_t n = 0;

    CHECK(EVP_MAC_final(m->at, out, &n, HASH_MAC) == 1 && n == HASH_MAC);
    CHECK(EVP_MAC_init(m->at, NULL, 0, NULL) == 1);
}

uint32_t hash_crc32(uint32_t start, const void *bytes, size_t n)
{
    return (uint32_t)crc32_z(start, bytes, n);
}
