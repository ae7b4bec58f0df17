#include "merge/images.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

enum { BLOCK = 512 }; /* rows: enough for a product to pay for passing over all it is added to */

static const float *image_of(const rows *r, const concept in[], int i)
{
    return in[r->from[i]].card.image + (int64_t)r->at[i] * in[0].card.outs;
}

/* Rows first .. first + n behind each other, f32 as the cards have them, so nothing is lost. */
static void gather(float *to, const rows *r, const concept in[], int first, int n)
{
    size_t outs = (size_t)in[0].card.outs;
#pragma omp parallel for if (n >= BLOCK)
    for (int i = 0; i < n; i++)
        memcpy(to + (size_t)i * outs, image_of(r, in, first + i), sizeof *to * outs);
}

static float *floats(size_t a, size_t b)
{
    float *x = NEW_N(float, a *b);
    mem_whole(x, sizeof *x * a * b);
    return x;
}

static int count(const rows *r, int first)
{
    return r->n - first < BLOCK ? r->n - first : BLOCK;
}

static float *rounded(const double *x, size_t n)
{
    float *y = NEW_N(float, n);
    for (size_t i = 0; i < n; i++)
        y[i] = (float)x[i];
    return y;
}

float *images_gather(const rows *r, const concept in[])
{
    float *all = floats((size_t)r->n, (size_t)in[0].card.outs);
    gather(all, r, in, 0, r->n);
    return all;
}

float *images_combine(const rows *r, const concept in[], const double *v, int m)
{
    int outs = (int)in[0].card.outs;
    float *x = floats((size_t)m, (size_t)outs), *block = floats(BLOCK, (size_t)outs);
    float *by = rounded(v, (size_t)r->n * (size_t)m);
    for (int at = 0; at < r->n; at += BLOCK) {
        gather(block, r, in, at, count(r, at));
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, outs, count(r, at), 1, by + (size_t)at * (size_t)m, m, block,
                    outs, 1, x, outs);
    }
    free(block);
    free(by);
    return x;
}

/* off = |said - w image|^2, size = |image|^2, in sums side by side. */
static void compare(double *off, double *size, const float *said, const float *image, double w, int outs)
{
    enum { SIDE = 8 };
    double gap[SIDE] = {0}, own[SIDE] = {0};
    int i = 0;
    for (; i + SIDE <= outs; i += SIDE)
        for (int k = 0; k < SIDE; k++) {
            double x = (double)image[i + k], d = (double)said[i + k] - w * x;
            gap[k] += d * d;
            own[k] += x * x;
        }
    for (; i < outs; i++) {
        double x = (double)image[i], d = (double)said[i] - w * x;
        gap[0] += d * d;
        own[0] += x * x;
    }
    *off = *size = 0;
    for (int k = 0; k < SIDE; k++) {
        *off += gap[k];
        *size += own[k];
    }
}

void images_miss(double *off, double *size, const rows *r, const concept in[], const double *weight, const float *x,
                 const double *t, int m)
{
    int outs = (int)in[0].card.outs;
    float *block = floats(BLOCK, (size_t)outs), *by = rounded(t, (size_t)r->n * (size_t)m);
    for (int at = 0; at < r->n; at += BLOCK) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count(r, at), outs, m, 1, by + (size_t)at * (size_t)m, m, x, outs,
                    0, block, outs);
#pragma omp parallel for
        for (int i = 0; i < count(r, at); i++) {
            double w = weight ? weight[r->from[at + i]] : 1;
            compare(&off[at + i], &size[at + i], block + (size_t)i * (size_t)outs, image_of(r, in, at + i), w, outs);
        }
    }
    free(block);
    free(by);
}
