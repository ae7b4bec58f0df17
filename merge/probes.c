#include "merge/probes.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"

int probes_of(const concept_matrix *m)
{
    return m->rows <= PROBES ? (int)m->rows : PROBES;
}

int probes_count(const concept_matrix matrix[], int n)
{
    int all = 0;
    for (int m = 0; m < n; m++)
        all += probes_of(&matrix[m]);
    return all;
}

/* [PROBES, outs]: bit b of the i-th number is the sign of output i under probe b. */
static void draw_signs(float *signs, int m, int64_t outs)
{
    rng_stream bits = rng_open(1, "signs", (uint32_t)m, 0);
    const float size = 1 / sqrtf(PROBES);
    uint32_t *word = NEW_N(uint32_t, outs);
    rng_u32_fill(bits, word, (uint64_t)outs);
    for (int b = 0; b < PROBES; b++)
        for (int64_t i = 0; i < outs; i++)
            signs[b * outs + i] = size * (float)(2 * (int)(word[i] >> b & 1) - 1);
    free(word);
}

void probes_see(float *seen, const float *image, int rows, const concept_matrix matrix[], int n)
{
    int all = probes_count(matrix, n), at = 0;
    int64_t outs = 0, from = 0;
    float *signs;
    for (int m = 0; m < n; m++)
        outs += matrix[m].rows;
    signs = NEW_N(float, PROBES *outs);
    for (int m = 0; m < n; m++) {
        int64_t w = matrix[m].rows;
        if (w <= PROBES) {
            for (int r = 0; r < rows; r++)
                memcpy(seen + (int64_t)r * all + at, image + r * outs + from, (size_t)w * sizeof *seen);
        } else {
            draw_signs(signs, m, w);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, PROBES, (int)w, 1, image + from, (int)outs, signs, (int)w,
                        0, seen + at, all);
        }
        at += probes_of(&matrix[m]);
        from += w;
    }
    free(signs);
}
