/* SHA-256 by libcrypto, CRC-32 by zlib. */
#include "cluster/base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"

struct hash {
    EVP_MD_CTX *md;
};

hash *hash_new(void)
{
    hash *h = NEW(hash);
    h->md = EVP_MD_CTX_new();
    CHECK(h->md && EVP_DigestInit_ex(h->md, EVP_sha256(), NULL) == 1);
    return h;
}

void hash_add(hash *h, const void *bytes, size_t n)
{
    CHECK(EVP_DigestUpdate(h->md, bytes, n) == 1);
}

void hash_end(hash *h, char hex[HASH_HEX])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    CHECK(EVP_DigestFinal_ex(h->md, sum, &n) == 1 && n == 32);
    for (unsigned i = 0; i < n; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", sum[i]);
    EVP_MD_CTX_free(h->md);
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

uint32_t hash_crc32(uint32_t start, const void *bytes, size_t n)
{
    return (uint32_t)crc32_z(start, bytes, n);
}
