/* golden_check: computes what a directory of expected values lists, through the product's own code, and judges it.
 * Exit status: 0 all within tolerance, 1 not, 2 what was asked cannot be done. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "tests/golden/golden.h"

static const char USAGE[] =
    "usage: golden_check DIR [--model MODELDIR] [--only REGEX] [--debug] [--backend cpu|cuda[:N]] [--compute f32|bf16]\n"
    "                    [--out FILE.safetensors]\n"
    "DIR holds golden.*, train_golden.*, merge_golden.* and tokenizer_golden.json; any may be absent.\n";

static const struct { const char *name; int (*check)(golden *g, err *e); } PARTS[] = {
    {"sched", check_sched},   {"lr", check_lr},   {"tokenizer", check_tokenizer},
    {"text", check_text},     {"vae", check_vae}, {"unet", check_unet},
    {"sample", check_sample}, {"train", check_train}, {"merge", check_merge},
};

typedef struct { golden_opts golden; const char *out, *compute; } options;

static int read_options(options *o, int argc, char **argv, err *e)
{
    static const struct option LONG[] = {{"model", 1, NULL, 'm'},   {"only", 1, NULL, 'o'}, {"debug", 0, NULL, 'd'},
                                         {"backend", 1, NULL, 'b'}, {"compute", 1, NULL, 'c'}, {"out", 1, NULL, 'f'},
                                         {"help", 0, NULL, 'h'},    {0}};

    *o = (options){.golden.backend = "cpu", .compute = "f32"};
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        switch (c) {
        case 'm': o->golden.model = optarg; break;
        case 'o': o->golden.only = optarg; break;
        case 'd': o->golden.debug = true; break;
        case 'b': o->golden.backend = optarg; break;
        case 'c': o->compute = optarg; break;
        case 'f': o->out = optarg; break;
        default: return err_set(e, ERR_INPUT, "%s", c == 'h' ? "help" : "an unknown option, or one without its value");
        }
    }
    if (optind != argc - 1)
        return err_set(e, ERR_INPUT, "one directory is wanted and %d were given", argc - optind);
    o->golden.dir = argv[optind];
    o->golden.bf16 = strcmp(o->compute, "bf16") == 0;
    if (strcmp(o->compute, "f32") != 0 && !o->golden.bf16)
        return err_set(e, ERR_INPUT, "compute type %s is not built (f32 and bf16 are)", o->compute);
    return 0;
}

/* A part that stops leaves its entries NOT BUILT and says why. */
static int compute(golden *g, const options *o)
{
    int stopped = 0;

    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
        err why = {0};
        if (o->golden.bf16 && strcmp(PARTS[i].name, "merge") == 0)
            continue; /* it begins with the words' features, whose f32 it takes for granted */
        if (PARTS[i].check(g, &why) != 0) {
            fprintf(stderr, "golden_check: %s: %s\n", PARTS[i].name, why.text);
            stopped++;
        }
    }
    return stopped;
}

static int check(const options *o, bool *good, err *e)
{
    golden *g;
    golden_tally t;

    TRY(golden_open(&g, &o->golden, e));
    int stopped = compute(g, o);
    int rc = golden_judge(g, &t, e);
    if (rc == 0 && o->out)
        rc = golden_write(g, o->out, e);
    golden_close(g);
    if (rc != 0)
        return rc;
    printf("%d judged, %d failed, %d not built\n", t.judged, t.failed, t.not_built);
    *good = stopped == 0 && t.failed == 0 && t.not_built == 0 && t.judged > 0;
    return 0;
}

int main(int argc, char **argv)
{
    options o;
    err e = {0};
    bool good = false;
    int rc = read_options(&o, argc, argv, &e);

    if (rc != 0 && strcmp(e.text, "help") == 0)
        return fputs(USAGE, stdout) < 0;
    if (rc != 0)
        fputs(USAGE, stderr);
    if (rc == 0)
        rc = check(&o, &good, &e);
    if (rc != 0) {
        fprintf(stderr, "golden_check: %s\n", e.text);
        return 2;
    }
    return good ? 0 : 1;
}
