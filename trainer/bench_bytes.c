/* See bench_bytes.h. A call takes the longer of two: its arithmetic at the peak, its bytes at the memory's rate; and a little for each
 * launch. So it is the least that this plan may take, with kernels that waste nothing. */
#include "trainer/bench_bytes.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

/* Data sheets of the SXM modules, dense; a launch within a graph, from where one ends to where the next has filled the device. */
typedef struct { const char *name; double bf16, f32, memory; } device;
static const device DEVICES[] = {{"h200", 989.4e12, 66.9e12, 4.8e12}, {"h100", 989.4e12, 66.9e12, 3.35e12}, {"a100", 312e12, 19.5e12, 2.039e12}};
enum { DEVICE_N = sizeof DEVICES / sizeof *DEVICES, PLACE = 96 };
static const double LAUNCH_S = 1.5e-6;

typedef struct {
    char place[PLACE];
    const char *kernel;
    bool back, narrow, adds;
    int calls, launches;
    double bytes, flops, seconds[DEVICE_N];
} kind;

static bool is_said(const char *part, size_t n)
{
    static const char *const BLOCKS[] = {"down_blocks", "up_blocks", "mid_block", "attentions", "transformer_blocks"};

    for (size_t i = 0; i < sizeof BLOCKS / sizeof *BLOCKS; i++)
        if (strlen(BLOCKS[i]) == n && memcmp(part, BLOCKS[i], n) == 0)
            return false;
    return strspn(part, "0123456789") < n;
}

/* The scope without numbers and without the blocks around it: "unet.attn1.to_q". */
static void name_place(char out[PLACE], const char *scope)
{
    size_t at = 0;

    for (size_t n; *scope; scope += n + (scope[n] == '.')) {
        n = strcspn(scope, ".");
        if (!is_said(scope, n) || at + n + 2 > PLACE)
            continue;
        out[at] = '.';
        at += at > 0;
        memcpy(out + at, scope, n);
        at += n;
    }
    out[at] = '\0';
}

static bool alike(const kind *a, const kind *b)
{
    return a->kernel == b->kernel && a->back == b->back && a->narrow == b->narrow && a->adds == b->adds && strcmp(a->place, b->place) == 0;
}

static void add(kind *to, const nn_traffic *t)
{
    to->calls++;
    to->launches += t->launches;
    to->bytes += t->bytes;
    to->flops += t->flops;
    for (int d = 0; d < DEVICE_N; d++) {
        const double by_arithmetic = t->flops / (strstr(t->kernel, "_bf16") ? DEVICES[d].bf16 : DEVICES[d].f32), by_memory = t->bytes / DEVICES[d].memory;
        to->seconds[d] += (by_arithmetic > by_memory ? by_arithmetic : by_memory) + t->launches * LAUNCH_S;
    }
}

static int longer_first(const void *a, const void *b)
{
    const double x = ((const kind *)a)->seconds[0], y = ((const kind *)b)->seconds[0];

    return (x < y) - (x > y);
}

static int sum_up(kind *kinds, const nn_traffic *each, int n, nn_tensor last)
{
    int rows = 0;

    for (int i = 0; i < n; i++) {
        kind one = {.kernel = each[i].kernel, .back = last && each[i].y->id > last->id, .narrow = each[i].narrow, .adds = each[i].adds};
        int k = 0;
        name_place(one.place, each[i].y->scope);
        while (k < rows && !alike(&kinds[k], &one))
            k++;
        if (k == rows)
            kinds[rows++] = one;
        add(&kinds[k], &each[i]);
    }
    qsort(kinds, (size_t)rows, sizeof *kinds, longer_first);
    return rows;
}

static void show(FILE *to, const kind *k)
{
    fprintf(to, "%s,%s,%s,%s,%d,%d,%.1f,%.1f", k->place, k->back ? "back" : "forward", k->kernel, k->narrow ? "bf16" : k->adds ? "f32 with an add" : "f32", k->calls, k->launches, k->bytes * 1e-6, k->flops * 1e-9);
    for (int d = 0; d < DEVICE_N; d++)
        fprintf(to, ",%.0f", k->seconds[d] * 1e6);
    fputc('\n', to);
}

void bench_bytes_show(FILE *to, const nn_traffic *each, int n, nn_tensor last)
{
    kind *kinds = NEW_N(kind, n + 1), all = {.place = "all", .kernel = "all"};
    const int rows = sum_up(kinds, each, n, last);

    for (int i = 0; i < n; i++)
        add(&all, &each[i]);
    fprintf(to, "place,direction,kernel,result,calls,launches,MB,GFLOP");
    for (int d = 0; d < DEVICE_N; d++)
        fprintf(to, ",us_%s", DEVICES[d].name);
    fputc('\n', to);
    for (int i = 0; i < rows; i++)
        show(to, &kinds[i]);
    show(to, &all);
    free(kinds);
}
