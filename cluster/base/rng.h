#ifndef CF_RNG_H
#define CF_RNG_H
/* Random numbers are looked up, not drawn: number i of the stream (seed, purpose, step, sample)
 * is the same on every machine, rank and restart. There is no generator state to save or share.
 * Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *
 * Layout (part of the promise of bits; the CUDA kernels compute the same numbers): key = seed xor FNV-1a 64 of the
 * purpose; counter = {i/4 low, i/4 high, step, sample}; number i is word i % 4 of that block. */
#include <stdint.h>

typedef struct {
    uint32_t key[2];
    uint32_t step, sample; /* counter words 2 and 3 */
} rng_stream;

/* purpose: "noise", "timestep", "crop", .... */
rng_stream rng_open(uint64_t seed, const char *purpose, uint32_t step, uint32_t sample);

void rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
uint32_t rng_u32(rng_stream s, uint64_t i);
void rng_u32_fill(rng_stream s, uint32_t *to, uint64_t n); /* to[i] = rng_u32(s, i) */
/* 0..n-1, n > 0: the high word of n times the number. No draw is rejected (number i would not be one address), so
 * the chances of two results differ by at most 2^-32: n/2^32 relative, 2e-7 for a thousand pictures. */
uint32_t rng_below(rng_stream s, uint64_t i, uint32_t n);
float rng_uniform(rng_stream s, uint64_t i);              /* [0, 1), 24 bits */
/* Box-Muller on words 2p, 2p+1 of a block: r = sqrt(-2 ln((w[2p]+1)/2^32)), a = 2 pi w[2p+1]/2^32; numbers 2p and
 * 2p+1 are r cos a and r sin a, in double, rounded to float at the end. */
float rng_normal(rng_stream s, uint64_t i);
void rng_normal_fill(rng_stream s, float *to, uint64_t n); /* to[i] = rng_normal(s, i) */
#endif
