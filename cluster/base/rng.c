/* Philox 4x32-10 and the distributions read from it. */
#include "cluster/base/rng.h"

#include <math.h>

rng_stream rng_open(uint64_t seed, const char *purpose, uint32_t step, uint32_t sample)
{
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a, 64 bits */
    for (const char *p = purpose; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3;
    h ^= seed;
    return (rng_stream){.key = {(uint32_t)h, (uint32_t)(h >> 32)}, .step = step, .sample = sample};
}

void rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9; /* Weyl sequences: the golden ratio and sqrt(3) - 1 */
        k1 += 0xBB67AE85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static void block_of(uint32_t out[4], rng_stream s, uint64_t i)
{
    uint64_t b = i / 4;
    rng_philox(out, (const uint32_t[4]){(uint32_t)b, (uint32_t)(b >> 32), s.step, s.sample}, s.key);
}

uint32_t rng_u32(rng_stream s, uint64_t i)
{
    uint32_t w[4];
    block_of(w, s, i);
    return w[i % 4];
}

void rng_u32_fill(rng_stream s, uint32_t *to, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        block_of(w, s, i);
        for (uint64_t j = 0; j < 4 && i + j < n; j++)
            to[i + j] = w[j];
    }
}

uint32_t rng_below(rng_stream s, uint64_t i, uint32_t n)
{
    return (uint32_t)(((uint64_t)rng_u32(s, i) * n) >> 32);
}

float rng_uniform(rng_stream s, uint64_t i)
{
    return (float)(rng_u32(s, i) >> 8) * 0x1p-24f;
}

/* Words 2p and 2p+1 of a block give its numbers 2p and 2p+1. In double, then rounded once: every libm (and a GPU)
 * whose log, sin and cos are good to an ulp or two arrives at the same float, but for one in some 2^27. */
static void normal_pair(float z[2], uint32_t radius, uint32_t angle)
{
    double u = ((double)radius + 1.0) * 0x1p-32; /* (0, 1]: log stays finite, |z| < 6.67 */
    double a = (double)angle * (0x1p-32 * 6.283185307179586);
    double r = sqrt(-2.0 * log(u));
    z[0] = (float)(r * cos(a));
    z[1] = (float)(r * sin(a));
}

float rng_normal(rng_stream s, uint64_t i)
{
    uint32_t w[4];
    float z[2];
    block_of(w, s, i);
    normal_pair(z, w[i % 4 / 2 * 2], w[i % 4 / 2 * 2 + 1]);
    return z[i % 2];
}

void rng_normal_fill(rng_stream s, float *to, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        float z[4];
        block_of(w, s, i);
        normal_pair(z, w[0], w[1]);
        normal_pair(z + 2, w[2], w[3]);
        for (uint64_t j = 0; j < 4 && i + j < n; j++)
            to[i + j] = z[j];
    }
}
