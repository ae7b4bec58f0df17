/* toyworld DIR: makes the toy world in a folder. data/toyworld in the repository is its output. */
#include <stdio.h>

#include "data/toyworld/toy_world.h"

int main(int argc, char **argv)
{
    err e = {0};

    if (argc != 2) {
        fprintf(stderr, "usage: toyworld DIR\n");
        return 2;
    }
    if (toy_world(argv[1], &e) != 0) {
        fprintf(stderr, "toyworld: %s\n", e.text);
        return 1;
    }
    return 0;
}
