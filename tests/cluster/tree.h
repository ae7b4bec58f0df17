#ifndef TREE_H
#define TREE_H
/* The sum of leaves from..from+size-1 in the order a gang adds them. */
static float tree_sum(float (*leaf)(int rank, int i), int from, int size, int i)
{
    int half = 1;

    if (size == 1)
        return leaf(from, i);
    while (half * 2 < size)
        half *= 2;
    return tree_sum(leaf, from, half, i) + tree_sum(leaf, from + half, size - half, i);
}
#endif
