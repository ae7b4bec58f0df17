/* The two layouts of convolution weights. */
#include "trainer/nn/params_layout.h"

#include <string.h>

bool nn_layout_turns(nn_shape s)
{
    return s.n == 4 && s.d[1] > 1 && s.d[2] * s.d[3] > 1;
}

/* to [rows][b][a] = from [rows][a][b] */
static void transpose(float *to, const float *from, int64_t rows, int64_t a, int64_t b)
{
    for (int64_t r = 0; r < rows; r++, to += a * b, from += a * b)
        for (int64_t j = 0; j < b; j++)
            for (int64_t i = 0; i < a; i++)
                to[j * a + i] = from[i * b + j];
}

void nn_layout_to_graph(float *graph, const float *file, nn_shape s)
{
    if (nn_layout_turns(s))
        transpose(graph, file, s.d[0], s.d[1], s.d[2] * s.d[3]);
    else
        memcpy(graph, file, (size_t)nn_count(s) * sizeof *graph);
}

void nn_layout_to_file(float *file, const float *graph, nn_shape s)
{
    if (nn_layout_turns(s))
        transpose(file, graph, s.d[0], s.d[2] * s.d[3], s.d[1]);
    else
        memcpy(file, graph, (size_t)nn_count(s) * sizeof *file);
}

static nn_shape without_ones(nn_shape s)
{
    nn_shape r = {0};

    for (int i = 0; i < s.n; i++)
        if (s.d[i] != 1)
            r.d[r.n++] = s.d[i];
    return r;
}

bool nn_layout_fits(nn_shape graph, nn_shape file)
{
    if (file.n == 4)
        file = NN_SHAPE(file.d[0], file.d[2], file.d[3], file.d[1]);
    return nn_same_shape(without_ones(graph), without_ones(file));
}
