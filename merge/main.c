/* cfarm-merge: concepts become one model, and other programs' files. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/command.h"

enum { HEAP_MOST = 32 << 20, HEAP_FIRST = 31 << 20 };
static const command *const commands[] = {&command_merge, &command_export, &command_import, &command_inspect, &command_diff,
                                          &command_report, NULL};

static const command *find(const char *name)
{
    for (const command *const *c = commands; *c; c++)
        if (strcmp((*c)->name, name) == 0)
            return *c;
    return NULL;
}

static int help(FILE *to)
{
    fprintf(to, "usage: cfarm-merge COMMAND ...\n\n");
    for (const command *const *c = commands; *c; c++)
        fprintf(to, "  %-8s %-32s %s\n", (*c)->name, (*c)->args, (*c)->help);
    fprintf(to, "\ncfarm-merge COMMAND --help tells its flags\n");
    return fflush(to) == 0 ? 0 : 1;
}

static int help_command(const command *c)
{
    cfg_section section = {c->name, c->rows, NULL};
    printf("usage: cfarm %s %s [flags]\n\n%s\n\n", c->name, c->args, c->help);
    cfg_help(stdout, &section, 1);
    return fflush(stdout) == 0 ? 0 : 1;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int read_settings(const command *c, void *set, cfg_doc *d, int *argc, char **argv, err *e)
{
    cfg_section section = {c->name, c->rows, set};
    cfg_node *flags;
    for (int i = 1; i < *argc; i++)
        if (strcmp(argv[i], "-o") == 0)
            argv[i] = cfg_text(d, "--out");
    TRY(cfg_args(&flags, d, &section, 1, argc, argv, e));
    TRY(cfg_args_done(&section, 1, *argc, argv, e));
    TRY(cfg_fill(NULL, d, &section, 1, flags, e));
    if (*argc - 1 < c->least || (c->most >= 0 && *argc - 1 > c->most))
        return err_set(e, ERR_INPUT, "%d files given; it goes: cfarm %s %s", *argc - 1, c->name, c->args);
    return 0;
}

static int run_command(const command *c, int argc, char **argv)
{
    cfg_doc *d = cfg_doc_new();
    void *set = mem_new(1, c->bytes);
    logger *log = NULL;
    err e = {0};
    int rc = read_settings(c, set, d, &argc, argv, &e), usage = rc;
    if (rc == 0)
        rc = log_open(&log, stderr, NULL, &e);
    if (rc == 0)
        rc = c->run(set, argv + 1, argc - 1, log, &e);
    if (rc != 0)
        fprintf(stderr, "cfarm-merge %s: %s\n", c->name, e.text);
    log_close(log);
    free(set);
    cfg_doc_free(d);
    return rc == 0 ? 0 : usage ? 2 : 1;
}

/* Pages once touched are used again, not given back and cleared anew, by all threads; and the first of them are large ones, for
 * a small merge spent a third of its time on faults. */
static void prepare_heap(void)
{
    void *first;
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, HEAP_MOST);
    mallopt(M_TRIM_THRESHOLD, 2 * HEAP_MOST);
    first = malloc(HEAP_FIRST);
    if (first)
        mem_whole(first, HEAP_FIRST);
    free(first);
}

/* Before OpenBLAS, where that is linked into the program, starts its threads: for want of work they would spin for 25 ms, longer
 * than a small merge takes, on a core that something else could use. */
__attribute__((constructor(101))) static void rest_soon(void)
{
    setenv("OPENBLAS_THREAD_TIMEOUT", "22", 0); /* 2^22 ticks: longer than a factorisation waits between two products */
}

int main(int argc, char **argv)
{
    const command *c = argc > 1 ? find(argv[1]) : NULL;
    prepare_heap();
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes shall be an error of write(), not the end */
    if (argc > 1 && !c && wants_help(argc, argv))
        return help(stdout);
    if (!c) {
        if (argc > 1)
            fprintf(stderr, "cfarm-merge: no command %s\n", argv[1]);
        help(stderr);
        return 2;
    }
    if (wants_help(argc - 1, argv + 1))
        return help_command(c);
    return run_command(c, argc - 1, argv + 1);
}
