#ifndef EVAL_COMMAND_H
#define EVAL_COMMAND_H
/* The commands of cfarm-eval: each reads its flags, does one thing, and returns 0 or an error for main to tell. */
#include <stdbool.h>

#include "cluster/base/err.h"

typedef struct {
    const char *name, *help;
    int (*tell_flags)(void);
    /* argv[0] is the command's name; *understood: the flags made sense, what went wrong came later. */
    int (*run)(int argc, char **argv, bool *understood, err *e);
} eval_command;
extern const eval_command eval_command_eval, eval_command_init, eval_command_reg;
#endif
