/* Which of a machine's devices reach each other best: what a gang had better stay within. */
#include "trainer/nn/cuda/cuda.h"

/* How well one reaches the other's memory, 0 the best, as CUDA ranks the links of a machine; -1: only through the host's. */
static int rank_of(int from, int to)
{
    int can = 0, rank = 0;

    if (cudaDeviceCanAccessPeer(&can, from, to) != cudaSuccess || !can
        || cudaDeviceGetP2PAttribute(&rank, cudaDevP2PAttrPerformanceRank, from, to) != cudaSuccess) {
        cudaGetLastError(); /* an answer, not a failure */
        return -1;
    }
    return rank;
}

static int worse(int a, int b)
{
    return a < 0 || b < 0 ? -1 : a > b ? a : b;
}

static int best_of(int n)
{
    int best = -1;

    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) {
            int rank = worse(rank_of(i, k), rank_of(k, i));
            if (rank >= 0 && (best < 0 || rank < best))
                best = rank;
        }
    return best;
}

/* By the best link that any two of them have to all that are in the group before it. */
static bool belongs(int device, int g, const int group[], int best)
{
    for (int i = 0; i < device; i++)
        if (group[i] == g && worse(rank_of(device, i), rank_of(i, device)) != best)
            return false;
    return best >= 0;
}

int cuda_links(int group[], int most, int *n, err *e)
{
    int groups = 0;

    TRY(cuda_count(n, e));
    if (*n > most)
        return err_set(e, ERR_DEVICE, "%d devices are seen, %d at most were expected", *n, most);
    const int best = best_of(*n);
    for (int i = 0; i < *n; i++) {
        int g = 0;
        while (g < groups && !belongs(i, g, group, best))
            g++;
        group[i] = g;
        groups = g == groups ? g + 1 : groups;
    }
    return 0;
}
