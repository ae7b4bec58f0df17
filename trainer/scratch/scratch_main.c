/* scratch MODEL STATE STAGE ...: makes the small trained model, a stage at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/scratch/scratch.h"

typedef struct { const char *name; int (*run)(const scratch *s, err *e); const char *help; } stage;
static const stage STAGES[] = {
    {"begin", scratch_begin, "a folder with random weights"},
    {"vae", scratch_vae, "the autoencoder"},
    {"decoder", scratch_decoder, "the autoencoder's decoder alone, while latents stay what they are"},
    {"clip", scratch_clip, "CLIP, and of it the text encoder"},
    {"unet", scratch_unet, "the UNet; wants the other two"},
    {"examiner", scratch_examiner, "a net that tells what a picture shows"},
    {"exam", scratch_exam, "the model's pictures for captions, told by the examiner"},
};
enum { STAGES_N = sizeof STAGES / sizeof *STAGES };

static int usage(FILE *to)
{
    fprintf(to, "usage: scratch MODEL STATE STAGE [--minutes M] [--pictures N] [--threads N]\n"
                "                           [--until STEP] [--compute auto|f32|bf16]\n"
                "       scratch MODEL STATE exam [--prompts N] [--steps N] [--guidance G]\nstages, in this order:\n");
    for (int i = 0; i < STAGES_N; i++)
        fprintf(to, "  %-9s %s\n", STAGES[i].name, STAGES[i].help);
    return to == stdout ? 0 : 2;
}

/* False: no such option. */
static bool set(scratch *s, int *threads, const char *name, const char *value)
{
    const struct { const char *name; int *whole; double *real; } options[] = {
        {"--minutes", NULL, &s->minutes}, {"--pictures", &s->pictures, NULL}, {"--threads", threads, NULL},
        {"--prompts", &s->prompts, NULL}, {"--steps", &s->steps, NULL}, {"--until", &s->until, NULL},
        {"--guidance", NULL, &s->guidance},
    };

    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strcmp(name, options[i].name) == 0) {
            if (options[i].whole)
                *options[i].whole = atoi(value);
            else
                *options[i].real = atof(value);
            return true;
        }
    return false;
}

static const stage *find(const char *name)
{
    for (int i = 0; i < STAGES_N; i++)
        if (strcmp(name, STAGES[i].name) == 0)
            return &STAGES[i];
    return NULL;
}

static int open_backend(scratch *s, int threads, const char *compute, err *e)
{
    const nn_compute best = nn_cpu_best_compute(NULL);
    const bool bf16 = strcmp(compute, "bf16") == 0, f32 = strcmp(compute, "f32") == 0;

    if (!bf16 && !f32 && strcmp(compute, "auto") != 0)
        return err_set(e, ERR_INPUT, "--compute %s: it is auto, f32 or bf16", compute);
    TRY(nn_cpu_open(&s->on, threads, false, e));
    return s->on->compute(s->on, bf16 ? NN_BF16 : f32 ? NN_F32 : best, e);
}

int main(int argc, char **argv)
{
    scratch s = {.minutes = 10, .pictures = 4000, .prompts = 500, .steps = 25, .guidance = 3};
    const char *compute = "auto";
    int threads = 0;
    err e = {0};

    if (argc < 4)
        return usage(argc == 2 && strcmp(argv[1], "--help") == 0 ? stdout : stderr);
    s.model = argv[1];
    s.state = argv[2];
    const stage *run = find(argv[3]);
    for (int i = 4; i < argc; i += 2)
        if (i + 1 < argc && strcmp(argv[i], "--compute") == 0)
            compute = argv[i + 1];
        else if (i + 1 == argc || !set(&s, &threads, argv[i], argv[i + 1]))
            return usage(stderr);
    if (!run || s.pictures < 1 || s.prompts < 1 || s.steps < 1)
        return usage(stderr);
    if (open_backend(&s, threads, compute, &e) != 0 || run->run(&s, &e) != 0) {
        fprintf(stderr, "scratch %s: %s\n", run->name, e.text);
        return 1;
    }
    s.on->close(s.on);
    return 0;
}
