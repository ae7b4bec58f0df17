/* cfarm eval: flags over a protocol's file. */
#include <stdio.h>
#include <stdlib.h>

#include "configs/cfg_yaml.h"
#include "trainer/eval/eval.h"
#include "trainer/eval/eval_command.h"

typedef struct { const char *protocol; } where;

static const cfg_field PROTOCOL[] = {
    {"protocol", CFG_TEXT, CFG_AT(where, protocol), "",
     .help = "a YAML file of the settings below, such as configs/eval/custom-diffusion.yaml; "
             "flags come before it"},
    CFG_END,
};

static int tell_flags(void)
{
    cfg_section sections[] = {{"protocol", PROTOCOL, NULL}, {"eval", eval_rows(), NULL}};

    printf("usage: cfarm eval (--pictures DIR | --from FILE.h5 --prompt TEXT) (--clip DIR | --dino PATH | --inception "
           "FILE) [flags]\n\n");
    cfg_help(stdout, sections, 2);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int read_settings(eval_cfg *set, char **text, cfg_doc *d, int argc, char **argv, err *e)
{
    where w = {0};
    cfg_section first = {"protocol", PROTOCOL, &w}, rest = {"eval", eval_rows(), set}, both[] = {first, rest};
    cfg_node *named, *flags;
    const cfg_node *file = NULL;
    const cfg *filled;

    TRY(cfg_args(&named, d, &first, 1, &argc, argv, e));
    TRY(cfg_args(&flags, d, &rest, 1, &argc, argv, e));
    TRY(cfg_args_done(both, 2, argc, argv, e));
    if (argc > 1)
        return err_set(e, ERR_INPUT, "%s is not a flag; pictures are given by --pictures", argv[1]);
    TRY(cfg_fill(NULL, d, &first, 1, named, e));
    if (w.protocol[0])
        TRY(cfg_yaml_read(&file, d, w.protocol, e));
    TRY(cfg_fill(&filled, d, &rest, 1, cfg_join(d, file, flags), e));
    *text = cfg_values(filled);
    return eval_check(set, e);
}

static int run(int argc, char **argv, bool *understood, err *e)
{
    cfg_doc *d = cfg_doc_new();
    logger *log = NULL;
    char *text = NULL;
    eval_cfg set;
    int rc = read_settings(&set, &text, d, argc, argv, e);

    *understood = rc == 0;
    if (rc == 0)
        rc = log_open(&log, stderr, NULL, e);
    if (rc == 0)
        rc = eval_run(&set, text, log, e);
    log_close(log);
    free(text);
    cfg_doc_free(d);
    return rc;
}

const eval_command eval_command_eval = {"eval", "measure how well a concept was learned", tell_flags, run};
