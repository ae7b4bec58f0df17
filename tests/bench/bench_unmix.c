/* What `unmix` does to a training of two subjects in collages, on the small trained model of the captioned world:
 *   bench_unmix SOURCE_TREE METHOD [--steps 120]
 * The same training, same pictures and noise, with one weight after another. Then, on draws that no step has seen: the loss
 * of the prediction alone, and how much a subject's words get of cross-attention (root mean square over heads, places and maps)
 * in its own half of a collage and in the other's. CSV on stdout; the first row is of the untrained words. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "data/toyworld/world.h"
#include "trainer/training.h"

enum { ONE = 0, OTHER = 5, JUDGED = 16, SAMPLES_MOST = 64 }; /* subjects of the world; batches that are judged */
static const double WEIGHTS[] = {0, 1, 10, 100};
static const double NOTHING = 1e-12; /* the graph of unmix, and no weight that a sum of floats would show */

typedef enum { LEARNS, IN_OTHER, IN_OWN } question;
typedef struct { const step_turn *of; question asks; bool pair[SAMPLES_MOST]; } asked;
typedef struct { double loss, other, own; int pairs, samples; } answer;

static void must(int rc, const err *e)
{
    if (rc == 0)
        return;
    fprintf(stderr, "bench_unmix: %s\n", e->text);
    exit(1);
}

/* Marks of one where words stand, for the half that is asked about; or none at all. */
static int fill(void *arg, int i, step_sample *x, err *e)
{
    asked *a = arg;

    TRY(a->of->fill(a->of->arg, i, x, e));
    a->pair[i] = false;
    for (int t = 0; t < TOKENS; t++) {
        bool left = x->words[2 * t] > 0, right = x->words[2 * t + 1] > 0;
        a->pair[i] |= left || right;
        x->words[2 * t] = a->asks != LEARNS && (a->asks == IN_OTHER ? left : right);
        x->words[2 * t + 1] = a->asks != LEARNS && (a->asks == IN_OTHER ? right : left);
    }
    if (a->asks != LEARNS)
        x->weight = 0;
    return 0;
}

static int say(void *arg, int i, float *text, err *e)
{
    const asked *a = arg;

    return a->of->say(a->of->arg, i, text, e);
}

static int ask(stepper *s, const step_turn *of, int n, question q, answer *into, err *e)
{
    asked a = {.of = of, .asks = q};
    step_turn turn = *of;
    float losses[SAMPLES_MOST];

    turn.fill = fill;
    turn.say = of->say ? say : NULL;
    turn.arg = &a;
    TRY(step_judge(s, 0, n, &turn, losses, e));
    for (int i = 0; i < n; i++) {
        double x = (double)losses[i];
        into->loss += q == LEARNS ? x : 0;
        into->other += q == IN_OTHER && a.pair[i] ? x / 2 : 0; /* the formula adds up two halves */
        into->own += q == IN_OWN && a.pair[i] ? x / 2 : 0;
        into->pairs += q == IN_OTHER && a.pair[i];
        into->samples += q == LEARNS;
    }
    return 0;
}

/* The batches of the next steps, which nothing learns from. */
static int judge(training *t, stepper *s, int n, answer *out, err *e)
{
    *out = (answer){0};
    for (int i = 0; i < JUDGED; i++) {
        step_turn turn;
        training_turn(t, &turn);
        for (question q = LEARNS; q <= IN_OWN; q++)
            TRY(ask(s, &turn, n, q, out, e));
        turn.result = (step_result){0};
        TRY(training_took(t, &turn, 0, e));
    }
    return 0;
}

/* untrained: the steps pass and nothing moves, so that all are judged on the same draws. */
static int learn(training *t, stepper *s, int steps, bool untrained, err *e)
{
    for (int i = 0; i < steps; i++) {
        step_turn turn = {0};
        training_turn(t, &turn);
        TRY(untrained ? 0 : step_run_all(s, &turn, e));
        TRY(training_took(t, &turn, 0, e));
    }
    return 0;
}

static void settle(concept_cfg *c, cfg_doc *d, const char *dir, const char *by, int steps, double weight)
{
    const bool words = method_find(by)->learns_words;
    const cfg_node *tree;
    str yaml = {0};
    err e = {0};

    str_add(&yaml, "{root: %s, method: %s, batch: 4, steps: %d, seed: 1, lr: %s, cut_mix: 60%%, unmix: %g, subjects: [", dir, by,
            steps + JUDGED, words ? "1e-4" : "1e-3", weight > 0 ? weight : NOTHING);
    for (int i = 0; i < 2; i++) {
        int one = i ? OTHER : ONE;
        str_add(&yaml, "{class: %s, images: subjects/%s, token: %s}%s", world_class_word(world_subject_class(one)),
                world_subject_name(one), words ? i ? "<two>" : "<one>" : i ? "dotted" : "checked", i ? "]}" : ", ");
    }
    must(cfg_yaml_parse(&tree, d, yaml.at, yaml.n, "settings", &e), &e);
    must(concept_cfg_fill(c, NULL, d, tree, &e), &e);
    str_free(&yaml);
}

static void print(const char *by, const char *weight, int steps, const answer *a)
{
    double other = sqrt(a->other / a->pairs), own = sqrt(a->own / a->pairs);

    printf("%s,%s,%d,%d,%d,%.5f,%.5f,%.5f,%.3f\n", by, weight, steps, a->samples, a->pairs, a->loss / a->samples, own, other,
           other / own);
    fflush(stdout);
}

static void run(sd *model, comm *self, const char *dir, const char *by, int steps, double weight, bool untrained)
{
    cfg_doc *d = cfg_doc_new();
    concept_cfg c;
    nn_adapter adapter;
    step_opts o;
    stepper *s;
    answer a;
    char name[32];
    err e = {0};

    settle(&c, d, dir, by, steps, weight);
    const train_job job = {.name = "two", .cfg = &c, .settings = "{}", .gang = self};
    sd_forget_plans(model);
    sd_restore(model);
    training *t = training_new(model, &job, NULL);
    must(training_load(t, &e), &e);
    must(training_opts(t, &o, &adapter, &e), &e);
    must(step_new(&s, model, self, &o, &e), &e);
    must(training_begin(t, s, 0, &e), &e);
    must(learn(t, s, steps, untrained, &e), &e);
    must(judge(t, s, o.batch, &a, &e), &e);
    snprintf(name, sizeof name, "%g", weight);
    print(by, untrained ? "untrained" : name, untrained ? 0 : steps, &a);
    step_free(s);
    training_free(t);
    free((void *)(uintptr_t)o.moves);
    cfg_doc_free(d);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/cfarm-bench-unmix-XXXXXX", base[FS_PATH];
    int steps = argc == 5 && strcmp(argv[3], "--steps") == 0 ? atoi(argv[4]) : 120;
    nn_backend *b;
    sd *model;
    comm *self;
    err e = {0};

    if ((argc != 3 && argc != 5) || steps < 1 || !method_find(argv[2])) {
        fprintf(stderr, "usage: bench_unmix SOURCE_TREE METHOD [--steps N]\n");
        return 2;
    }
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    must(world_pictures(dir, ONE, 0, &e), &e);
    must(world_pictures(dir, OTHER, 0, &e), &e);
    must(fs_join(base, argv[1], "data/toyworld/world/model", &e), &e);
    must(nn_cpu_open(&b, 0, false, &e), &e);
    must(sd_open(&model, base, b, &e), &e);
    must(comm_self(&self, &e), &e);
    printf("method,unmix,steps,samples,collages,loss,seen_in_own_half,seen_in_others_half,ratio\n");
    run(model, self, dir, argv[2], steps, 0, true);
    for (size_t i = 0; i < sizeof WEIGHTS / sizeof *WEIGHTS; i++)
        run(model, self, dir, argv[2], steps, WEIGHTS[i], false);
    comm_free(self);
    sd_close(model);
    b->close(b);
    return fs_remove_tree(dir, &e);
}
