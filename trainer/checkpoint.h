#ifndef CHECKPOINT_H
#define CHECKPOINT_H
/* A training between two steps, as bytes: all that its further steps depend on and that is not looked up. From them it goes
 * on to the bytes of a training that was never stopped, in a gang of any width. The machine's own byte order:
 *
 *      0  "cfarmckp"        8  u32 version, 1       12  u32 zero         16  u64 length of all
 *     24  u64 finished steps                        32  u64 trained floats
 *     40  f64 what decay has left of the vocabulary 48  f64 mean loss of the probe before      56  u64 zero
 *     64  [64] key: hash of what decides the numbers
 *    128  [64] sha256 of bytes 0 to 127 and 192 to the end
 *    192  f32 weights, first and second moments [trained floats] each; loss, rate, gradient norm [finished steps] each
 *
 * Promise: whatever the bytes are, opening them ends in a checkpoint of this very training or in an error. */
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/hash.h"

typedef struct {
    uint64_t step;               /* finished */
    size_t weights;
    double table, probe;
    float *w, *m, *v;            /* [weights]; all six lie in the bytes */
    float *loss, *lr, *grad_norm; /* [step] */
} checkpoint;

size_t checkpoint_bytes(size_t weights, uint64_t step);
/* Where the parts lie in bytes of that length, aligned to 8; then they are filled in, and all is sealed. */
void checkpoint_lay(checkpoint *out, void *bytes, size_t weights, uint64_t step);
void checkpoint_seal(const checkpoint *c, void *bytes, const char key[HASH_HEX]);
/* What its head says, without a look at the rest; 0: it has none. */
uint64_t checkpoint_step(const void *bytes, size_t n);
/* bytes may go on behind the checkpoint. ERR_IO: cut short or damaged; ERR_INPUT: of another training. */
int checkpoint_open(checkpoint *out, const void *bytes, size_t n, const char key[HASH_HEX], err *e);
#endif
