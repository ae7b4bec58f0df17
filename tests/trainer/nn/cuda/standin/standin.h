#ifndef STANDIN_H
#define STANDIN_H
/* A GPU for tests, played by the CPU: so much of CUDA's runtime, cuBLASLt and cuDNN that the backend's host logic and our
 * kernels run where there is neither a device nor a toolkit. It promises to be as unforgiving as the real thing:
 *
 * - Work on a stream is kept and done only when somebody waits: who reads before waiting reads what was there before.
 *   Host memory that is not pinned is copied at the call, pinned memory when its turn comes, as on a device.
 * - New device memory is full of NaN. Copies must lie within one piece of it.
 * - While a stream is captured nothing may be allocated, freed or waited for; a graph replays what was recorded, in any order
 *   that streams and events within the capture left open, another one each time.
 * - A block's threads are fibers. Blocks and threads go in another order at every launch, so that a missing barrier or a
 *   race between blocks changes bits from run to run; a barrier that not all threads reach ends the process.
 * - The address sanitizer (presets/dev.cmake) sees kernels as it sees any C++: a stray access ends the process.
 *
 * NCCL is played, too (standin_nccl.cpp), in the same file: CFARM_NCCL names it for the backend to open.
 *
 * cuBLASLt lists several algorithms for a product, and some of them are bad ones (standin_lt.cpp); standin_lt_calls, which the
 * plugin exports, counts what was asked of each; standin_counts does so of allocations, waits, launches.
 *
 * What it is not: a clock (but for what work says it takes, which events see), a memory model below barriers, an opinion of what real engines cuBLASLt or cuDNN list.
 *
 * STANDIN_CUDA in the environment says what kind of machine it plays, words apart by commas: devices=N, memory=BYTES of
 * each, driver=VERSION (0: none), major=N, links=N (each N of
 * them by NVLink, all others by PCIe, the last one by nothing), fail=N:WHAT (the N-th piece of work on a stream ends in WHAT: ecc, lost or
 * address; from then on every call says so), plain (no library takes anything, so that our own kernels do), refuse=N (the N-th call
 * of a library that computes is refused). */
#include <functional>

#include <cuda_runtime_api.h>

/* Puts work on a stream, or into the graph that is being captured there. */
cudaError_t standin_do(cudaStream_t s, std::function<void()> work);
/* The same for work that may not be done yet: it is asked again until it gives true. */
cudaError_t standin_do_when(cudaStream_t s, std::function<bool()> work);
bool standin_captures(cudaStream_t s);
void standin_spend(double seconds); /* work that is done says that it took so long */
bool standin_plain(); /* STANDIN_CUDA has `plain` */
const char *standin_piece(const void *at, size_t *bytes); /* the piece of memory that holds this place, or NULL */
bool standin_refuses(); /* asked by each call of a library that computes: whether it is the one to refuse */

/* ---- for kernels ---- */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
enum { STANDIN_WARP = 32 };

void standin_launch(dim3 grid, dim3 block, cudaStream_t s, std::function<void()> thread);
void standin_block_barrier();
/* Every lane of the warp brings `bytes` and gets what lane `from` brought; a barrier of the warp. */
void standin_exchange(void *mine, size_t bytes, unsigned from);
/* The same, and all lanes' are given, one behind the other, until the lane's next exchange. */
const void *standin_gather(const void *mine, size_t bytes);
/* The place, which must be a multiple of `bytes`: as vectors of CUDA want it. */
void *standin_at(const void *place, size_t bytes);
/* Copies to shared memory that a thread begins (`from` NULL: zeros), puts into groups and waits for, all groups but the last
 * `left`. They are made no sooner than that; a thread that ends with one not waited for ends the process. */
void standin_copy_begin(void *to, const void *from, size_t bytes);
void standin_copy_group();
void standin_copy_wait(size_t left);
/* The same of any work, done when its group is waited for. */
void standin_later(std::function<void()> work);
void standin_later_group();
void standin_later_wait(size_t left);
/* A signal of `count` gifts: who waits goes on when all have come and it has begun anew, as its phase `odd` or not has passed. Waits
 * that nobody ends end the process. */
void standin_signal_begin(uint64_t *s, unsigned count);
void standin_signal_give(uint64_t *s);
void standin_signal_wait(uint64_t *s, unsigned odd);
#endif
