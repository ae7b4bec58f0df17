/* Values of a dataset written chunk by chunk, around HDF5's filter pipeline and chunk cache, which cost more than the
 * disk: a chunk that is a run of whole rows goes out with its checksum behind it in one write. */
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/store_impl.h"

enum { CHECK_BYTES = 4, BLOCK = 256 };

/* Fletcher's checksum as HDF5 has it: over big-endian 16-bit words, sums modulo 65535 where only 0 itself is 0. A word
 * with its bytes turned is 256 times the word modulo 65535, so the words are taken as this machine reads them. Both
 * sums of a chunk fit 64 bits. */
static uint32_t folded(uint64_t sum)
{
    return sum == 0 ? 0 : (uint32_t)((sum % 65535 * 256 + 65534) % 65535 + 1);
}

static uint32_t fletcher32(const unsigned char *at, size_t bytes)
{
    uint64_t one = 0, two = 0;
    size_t words = bytes / 2, i = 0;
    uint16_t w[BLOCK];
    for (; i + BLOCK <= words; i += BLOCK) {
        uint32_t plain = 0, weighed = 0; /* at most 256 * 257 / 2 * 65535 < 2^32 */
        memcpy(w, at + 2 * i, sizeof w);
        for (uint32_t k = 0; k < BLOCK; k++) {
            plain += w[k];
            weighed += (BLOCK - k) * w[k];
        }
        two += BLOCK * one + weighed;
        one += plain;
    }
    for (; i < words; i++) {
        memcpy(w, at + 2 * i, 2);
        one += w[0];
        two += one;
    }
    if (bytes % 2 != 0) { /* the last byte is the high one of its word; turned, the low one */
        one += at[bytes - 1];
        two += one;
    }
    return folded(two) << 16 | folded(one);
}

bool store_in_rows(const hsize_t chunk[STORE_DIMS], store_shape shape)
{
    for (int i = 1; i < shape.n; i++)
        if (chunk[i] != (hsize_t)shape.d[i])
            return false;
    return shape.n > 0 && store_count(shape) > 0;
}

static void put_le32(unsigned char *to, uint32_t v)
{
    for (int i = 0; i < CHECK_BYTES; i++)
        to[i] = (unsigned char)(v >> 8 * i);
}

int store_write_chunks(const store *s, const char *path, hid_t set, hsize_t rows, store_shape shape, size_t size,
                       const void *data, err *e)
{
    size_t row = store_count(shape) / (size_t)shape.d[0] * size, bytes = (size_t)rows * row;
    unsigned char *block = mem_new(bytes + CHECK_BYTES, 1);
    hsize_t at[STORE_DIMS] = {0}, all = (hsize_t)shape.d[0];
    int rc = 0;
    for (; rc == 0 && at[0] < all; at[0] += rows) {
        size_t n = (size_t)(all - at[0] < rows ? all - at[0] : rows) * row;
        memcpy(block, (const unsigned char *)data + (size_t)at[0] * row, n);
        memset(block + n, 0, bytes - n);
        put_le32(block + bytes, fletcher32(block, bytes));
        if (H5Dwrite_chunk(set, H5P_DEFAULT, 0, at, bytes + CHECK_BYTES, block) < 0)
            rc = store_fail(s, path, "cannot be written", e);
    }
    free(block);
    return rc;
}
