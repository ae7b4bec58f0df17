/* judge_make TO LIST: a measuring model with looked-up weights (judge_kit.h), for scripts. */
#include "tests/trainer/eval/judge_kit.h"

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    judge_kit_make(argv[1], argv[2]);
    return 0;
}
