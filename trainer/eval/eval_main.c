/* cfarm-eval: how well a concept was learned, and what it is compared with. Its first argument is the command; `cfarm
 * eval ...` runs it. Exit status: 0 done, 1 not done, 2 flags that make no sense. */
#include <stdio.h>
#include <string.h>

#include "trainer/eval/eval_command.h"

static const eval_command *const commands[] = {&eval_command_eval, &eval_command_reg, &eval_command_init, NULL};

static const eval_command *find(const char *name)
{
    for (const eval_command *const *c = commands; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}

static int help(FILE *to)
{
    fprintf(to, "usage: cfarm-eval COMMAND ...\n\n");
    for (const eval_command *const *c = commands; *c; c++)
        fprintf(to, "  %-8s %s\n", (*c)->name, (*c)->help);
    fprintf(to, "\ncfarm-eval COMMAND --help tells its flags\n");
    return fflush(to) == 0 ? 0 : 1;
}

static bool wants_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int main(int argc, char **argv)
{
    const eval_command *c = argc > 1 ? find(argv[1]) : NULL;
    err e = {0};

    if (argc > 1 && wants_help(argv[1]))
        return help(stdout);
    if (!c) {
        if (argc > 1)
            fprintf(stderr, "cfarm-eval: no command %s\n", argv[1]);
        help(stderr);
        return 2;
    }
    for (int i = 2; i < argc; i++)
        if (wants_help(argv[i]))
            return c->tell_flags();
    bool understood = false;
    if (c->run(argc - 1, argv + 1, &understood, &e) == 0)
        return 0;
    fprintf(stderr, "cfarm-eval %s: %s\n", c->name, e.text);
    return understood ? 1 : 2;
}
