#ifndef COMMAND_H
#define COMMAND_H
/* The commands of cfarm-merge: each reads its flags, does one thing, and returns 0 or an error for main to tell. */
#include "cluster/base/log.h"
#include "configs/cfg.h"
#include "trainer/model/sd.h"

typedef struct {
    const char *name, *args, *help;
    const cfg_field *rows;
    size_t bytes;    /* of the struct the rows fill */
    int least, most; /* arguments that are no flags; most -1: any number */
    /* settings: filled from the flags. file[n]: the arguments. */
    int (*run)(const void *settings, char *const file[], int n, logger *log, err *e);
} command;
extern const command command_merge, command_inspect, command_diff, command_export, command_import, command_report;

/* A base model on the CPU. */
typedef struct {
    nn_backend *backend;
    sd *model;
} base_model;
/* dir "": where `hint` says, if anything stands there. wanted: the fingerprint it must have, or NULL. */
int base_open(base_model *out, const char *dir, const char *hint, const char *wanted, err *e);
/* Whether it has that fingerprint; the error says which it has. */
int base_check(const base_model *b, const char *wanted, err *e);
void base_close(base_model *b);
#endif
