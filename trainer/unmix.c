#include "trainer/unmix.h"

/* seen [n,h,w,heads,width] -> the mean over places from .. from + count - 1 of each row, and heads, of number `which` squared [n] */
static nn_tensor mean_square(nn_graph *g, nn_tensor seen, int which, int64_t from, int64_t count)
{
    nn_shape s = nn_shape_get(seen);
    nn_tensor part = nn_slice(g, nn_slice(g, seen, 4, which, 1), 2, from, count);
    nn_shape map = NN_SHAPE(s.d[0], s.d[1], count, s.d[3]);

    part = nn_reshape(g, part, map);
    return nn_scale(g, nn_squared_error(g, part, nn_zeros(g, map), NULL), 1 / (float)(s.d[1] * count * s.d[3]));
}

/* The words as values of an attention: the first two numbers of each head. [n,tokens,2] -> [n,tokens,heads*width] */
static nn_tensor as_values(nn_graph *g, nn_tensor words, int64_t heads, int64_t width)
{
    nn_shape s = nn_shape_get(words);
    nn_tensor v = nn_reshape(g, words, NN_SHAPE(s.d[0], s.d[1], 1, 2));

    v = nn_expand(g, v, NN_SHAPE(s.d[0], s.d[1], heads, 2));
    if (width > 2)
        v = nn_concat(g, v, nn_zeros(g, NN_SHAPE(s.d[0], s.d[1], heads, width - 2)));
    return nn_reshape(g, v, NN_SHAPE(s.d[0], s.d[1], heads * width));
}

static void look(void *arg, nn_graph *g, nn_tensor q, nn_tensor k, int heads, int64_t h, int64_t w)
{
    unmix *u = arg;
    int64_t n = nn_shape_get(q).d[0], width = nn_shape_get(q).d[2] / heads;

    if (w < 2)
        return;
    if (width < 2) {
        nn_mistake(g, "unmix reads two numbers of each head, and these heads are %lld wide", (long long)width);
        return;
    }
    nn_tensor seen = nn_attention(g, q, k, as_values(g, u->words, heads, width), heads, false);
    seen = nn_reshape(g, seen, NN_SHAPE(n, h, w, heads, width));
    nn_tensor left = mean_square(g, seen, 0, w / 2, w - w / 2), right = mean_square(g, seen, 1, 0, w / 2);
    nn_tensor both = nn_add(g, left, right);
    u->sum = u->sum ? nn_add(g, u->sum, both) : both;
    u->maps++;
}

void unmix_watch(unmix *u, nn_graph *g, nn_tensor words)
{
    *u = (unmix){.words = words};
    nn_watch(g, &(nn_watcher){u, look});
}

nn_tensor unmix_loss(unmix *u, nn_graph *g)
{
    nn_watch(g, NULL);
    if (!u->sum)
        return nn_mistake(g, "unmix finds no cross-attention over a map of two columns or more");
    return nn_scale(g, u->sum, 1 / (float)u->maps);
}
