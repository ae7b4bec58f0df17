/* Laws of steps that nobody waits for (trainer/step_flight.c), over the stand-in: begun several at a time they give the bytes of
 * steps told one by one, recorded or call by call, and the CPU's numbers to rounding; clipping is the CPU's; what goes wrong in one
 * is told with it, and those before it stand; while steps are begun nothing is allocated, nothing waited for that the device does not
 * share passes learn what each learns alone; GPUs that sum beside the
 * backward pass learn what one does, in f32 and in bf16, all the same bytes, and a sample that one of them cannot make ends them
 * all. Each rank is a process. */
#include <cuda_runtime_api.h> /* the stand-in's */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "tests/trainer/small_model.h"
#include "trainer/made_up.h"
#include "trainer/method/method.h"
#include "trainer/train.h"

/* Small, since the stand-in takes its time; some steps more than are begun at once. */
enum { SIDE = 4, BATCH = 2, STEPS = 3, SOME = 2, RANKS = 2, WIDTH = 2 };

typedef struct bench {
    nn_backend *on;
    sd *model;
    comm *gang;
    stepper *s;
    const char **moves;
    int n_moves;
    int (*leave_room)(struct bench *b, err *e); /* called before the stepper is made; NULL: nobody is */
    size_t room;                 /* what it leaves of the device's memory, or found there */
} bench;

/* Of one concept in a step. */
typedef struct {
    made_up from;
    int step, fails_at, nan_at, shift;   /* shift: of samples, so that concepts differ */
} learner;

typedef struct {
    float *w, losses[STEPS], norms[STEPS];
    size_t n;
} learned;

/* Who encodes texts: the pass, with a word's row that moves; or nobody here, which takes the stand-in a tenth of the time. */
static step_text texts = TEXT_SAID;

static void ok(int rc, const err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static int fill(void *arg, int i, step_sample *x, err *e)
{
    const learner *l = arg;

    if (l->step == l->fails_at && i == BATCH - 1)
        return err_set(e, ERR_INPUT, "picture %d cannot be read", i);
    TRY(made_up_fill((void *)(uintptr_t)&l->from, l->shift + l->step * BATCH + i, x, e));
    if (l->step == l->nan_at)
        x->latents[0] = NAN;
    return 0;
}

static int say(void *arg, int i, float *text, err *e)
{
    const learner *l = arg;

    return made_up_say((void *)(uintptr_t)&l->from, l->shift + l->step * BATCH + i, text, e);
}

/* on: taken over, as the gang is. */
static int begin_on(bench *b, nn_backend *on, comm *gang, const step_opts *more, err *e)
{
    const train_cfg how = {.freeze = FREEZE_KV};
    float start[64] = {0.1F, -0.2F, 0.3F};
    step_opts o = *more;

    *b = (bench){.on = on, .gang = gang, .leave_room = b->leave_room, .room = b->room};
    TRY(sd_open(&b->model, small_model_dir(), on, e));
    if (texts == TEXT_ENCODED)
        TRY(sd_text_rows_set(b->model, start, 1, e));
    TRY(train_moves(b->model, method_find("custom-diffusion"), &how, &b->moves, &b->n_moves, e));
    o.moves = b->moves;
    o.n_moves = b->n_moves;
    o.batch = o.batch ? o.batch : BATCH;
    o.h = o.w = o.h ? o.h : SIDE;
    o.detach_first = true;
    o.text = texts;
    if (o.width > 0)
        TRY(nn_params_train_pack(sd_params(b->model), b->moves, b->n_moves, o.width, e));
    if (b->leave_room)
        TRY(b->leave_room(b, e));
    return step_new(&b->s, b->model, gang, &o, e);
}

static void begin(bench *b, const char *device, const step_opts *more)
{
    nn_backend *on;
    comm *self;
    err e = {0};

    ok(nn_open(&on, device, 1, &e), &e);
    ok(comm_self(&self, &e), &e);
    ok(begin_on(b, on, self, more, &e), &e);
}

static void end(bench *b)
{
    step_free(b->s);
    free(b->moves);
    sd_close(b->model);
    comm_free(b->gang);
    b->on->close(b->on);
}

static step_turn turn_of(learner *l, int step, double clip)
{
    l->step = step;
    return (step_turn){.fill = fill, .say = say, .arg = l, .t = (uint64_t)step + 1,
                       .how = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = clip}};
}

/* STEPS of them, at most `most` begun before they are told. */
static int learn(bench *b, learner *l, int most, double clip, learned *out, err *e)
{
    step_turn turns[STEP_AHEAD];

    *out = (learned){.n = step_weights(b->s)};
    for (int from = 0, n; from < STEPS; from += n) {
        for (n = 0; n < most && n < step_most(b->s) && from + n < STEPS; n++) {
            turns[n] = turn_of(l, from + n, clip);
            TRY(step_begin(b->s, &turns[n], e));
        }
        TRY(step_tell(b->s, turns, n, e));
        for (int k = 0; k < n; k++) {
            if (turns[k].why.code) {
                *e = turns[k].why;
                return (int)err_wrap(e, "step %d", from + k);
            }
            out->losses[from + k] = (float)turns[k].result.loss;
            out->norms[from + k] = (float)turns[k].result.grad_norm;
        }
    }
    out->w = NEW_N(float, out->n);
    return nn_params_weights_read(sd_params(b->model), 0, out->w, out->n, e);
}

static learned alone(const char *device, int most, double clip)
{
    bench b = {0};
    learned out;
    err e = {0};

    begin(&b, device, &(step_opts){.micro = BATCH});
    learner l = {.from = {b.model, SIDE, SIDE}, .fails_at = -1, .nan_at = -1};
    ok(learn(&b, &l, most, clip, &out, &e), &e);
    end(&b);
    return out;
}

static void same(const learned *a, const learned *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->w, b->w, a->n * sizeof *a->w);
    assert_memory_equal(a->losses, b->losses, sizeof a->losses);
    assert_memory_equal(a->norms, b->norms, sizeof a->norms);
}

/* Losses and norms relative; weights moved by 1e-3 a step, of which AdamW's first ones turn small differences into whole steps. */
static void near(const learned *a, const learned *b, double by)
{
    double off = 0, all = 0;

    for (int i = 0; i < STEPS; i++) {
        assert_true(fabs((double)a->losses[i] - (double)b->losses[i]) <= by * fabs((double)b->losses[i]));
        assert_true(fabs((double)a->norms[i] - (double)b->norms[i]) <= 5 * by * fabs((double)b->norms[i]));
    }
    for (size_t i = 0; i < a->n; i++) {
        off += pow((double)a->w[i] - (double)b->w[i], 2);
        all += pow((double)b->w[i], 2);
    }
    assert_true(off <= by * by * all);
}

static void steps_begun_together_are_steps_told_one_by_one(void **unused)
{
    (void)unused;
    texts = TEXT_ENCODED;
    learned cpu = alone("cpu", 1, 0), one = alone("cuda", 1, 0), many = alone("cuda", SOME, 0);

    same(&one, &many);
    near(&many, &cpu, 1e-4);
    setenv("CFARM_CUDA_GRAPHS", "0", 1);
    learned plain = alone("cuda", SOME, 0);
    unsetenv("CFARM_CUDA_GRAPHS");
    same(&plain, &many);
    texts = TEXT_SAID;
    free(cpu.w);
    free(one.w);
    free(many.w);
    free(plain.w);
}

static void a_gradient_is_clipped_as_the_cpu_does_it(void **unused)
{
    (void)unused;
    learned free_one = alone("cuda", SOME, 0);
    const double clip = (double)free_one.norms[0] / 2;
    learned cpu = alone("cpu", 1, clip), gpu = alone("cuda", SOME, clip);

    near(&gpu, &cpu, 1e-4);
    free(free_one.w);
    free(cpu.w);
    free(gpu.w);
}

static void what_goes_wrong_in_a_step_is_told_with_it(void **unused)
{
    (void)unused;
    for (int which = 0; which < 2; which++) {
        bench b = {0};
        learned out;
        err e = {0};
        begin(&b, "cuda", &(step_opts){.micro = BATCH});
        learner l = {.from = {b.model, SIDE, SIDE}, .fails_at = which ? -1 : 1, .nan_at = which ? 1 : -1};
        assert_int_equal(learn(&b, &l, SOME, 0, &out, &e), ERR_INPUT);
        assert_non_null(strstr(e.text, which ? "step 1: the loss or its gradient is not a finite number" : "step 1: picture 1 cannot be read"));
        assert_true(out.losses[0] > 0 && out.losses[1] == 0.0F);
        end(&b);
    }
}

/* ---- what the host asks of the device ---- */

static const int *counts(void)
{
    void *plugin = dlopen(getenv("CFARM_CUDA_PLUGIN"), RTLD_NOW | RTLD_NOLOAD);
    const int *at = dlsym(plugin, "standin_counts");

    assert_non_null(at);
    dlclose(plugin);
    return at;
}

/* What came to each count while n steps were begun, and until they were told. */
static void count_steps(bench *b, learner *l, int n, int begun[STANDIN_COUNTS], int told[STANDIN_COUNTS])
{
    int before[STANDIN_COUNTS];
    step_turn turns[STEP_AHEAD];
    err e = {0};

    memcpy(before, counts(), sizeof before);
    for (int i = 0; i < n; i++) {
        turns[i] = turn_of(l, i, 0);
        ok(step_begin(b->s, &turns[i], &e), &e);
    }
    for (int i = 0; i < STANDIN_COUNTS; i++)
        begun[i] = counts()[i] - before[i];
    ok(step_tell(b->s, turns, n, &e), &e);
    for (int i = 0; i < STANDIN_COUNTS; i++)
        told[i] = counts()[i] - before[i];
}

/* A load is waited for that crossed two steps before, since its place is wanted again: the device has the steps between. A step's own
 * work is its graph; its inputs cross, are copied and said to be over, its losses and norms are told. */
static void a_loop_of_steps_allocates_nothing_and_never_lets_the_device_wait(void **unused)
{
    enum { PUT = 7, N = 5 };
    int begun[STANDIN_COUNTS], told[STANDIN_COUNTS];
    bench b = {0};

    (void)unused;
    texts = TEXT_ENCODED;
    begin(&b, "cuda", &(step_opts){.micro = BATCH});
    learner l = {.from = {b.model, SIDE, SIDE}, .fails_at = -1, .nan_at = -1};
    count_steps(&b, &l, SOME, begun, told); /* laid out, put down, recorded */
    count_steps(&b, &l, N, begun, told);
    assert_int_equal(told[STANDIN_LAUNCHES], N);
    assert_int_equal(told[STANDIN_ALLOCATIONS] + told[STANDIN_RELEASES] + told[STANDIN_MADE] + told[STANDIN_HELD], 0);
    assert_int_equal(told[STANDIN_PUT], PUT * N);
    assert_int_equal(begun[STANDIN_WAITS], N - 2);
    assert_int_equal(begun[STANDIN_DRY], 0);
    assert_int_equal(told[STANDIN_WAITS], N - 1);
    assert_int_equal(told[STANDIN_DRY], 1);
    texts = TEXT_SAID;
    end(&b);
}

/* Their rows are a table's, one behind the other; ids are shifted by the stepper. */
static void concepts_of_a_pack_learn_what_each_learns_alone(void **unused)
{
    bench b = {0};
    err e = {0};
    learner who[WIDTH];
    step_turn turns[WIDTH];

    (void)unused;
    begin(&b, "cuda", &(step_opts){.micro = BATCH, .width = WIDTH});
    size_t n = step_weights(b.s);
    float *w = NEW_N(float, n);
    for (int i = 0; i < WIDTH; i++)
        who[i] = (learner){.from = {b.model, SIDE, SIDE}, .fails_at = -1, .nan_at = -1, .shift = 1000 * i};
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < WIDTH; i++)
            turns[i] = turn_of(&who[i], step, 0);
        ok(step_run_all(b.s, turns, &e), &e);
    }
    for (int i = 0; i < WIDTH; i++) {
        bench solo = {0};
        learned by_itself;
        learner l = who[i];
        begin(&solo, "cuda", &(step_opts){.micro = BATCH});
        l.from.model = solo.model;
        ok(learn(&solo, &l, SOME, 0, &by_itself, &e), &e);
        ok(nn_params_weights_read(sd_params(b.model), (size_t)i * n, w, n, &e), &e);
        for (size_t k = 0; k < n; k++)
            if (!(fabsf(w[k] - by_itself.w[k]) <= 1e-5F))
                fail_msg("concept %d, weight %zu: %g packed and %g alone", i, k, (double)w[k], (double)by_itself.w[k]);
        free(by_itself.w);
        end(&solo);
    }
    free(w);
    end(&b);
}

/* ---- room ---- */

static int find_room(bench *b, err *e) { return b->on->left(b->on, &b->room, e); }

/* Of the stand-in's 4 GiB. */
static int leave_room(bench *b, err *e)
{
    const double all = 4.0 * 1024 * 1024 * 1024;
    size_t left;

    TRY(b->on->left(b->on, &left, e));
    TRY(b->on->limit(b->on, (all - (double)left + (double)b->room) / all, e));
    return b->on->left(b->on, &b->room, e);
}

static int begin_wide(bench *b, int micro, err *e)
{
    nn_backend *on;
    comm *self;

    TRY(nn_open(&on, "cuda", 1, e));
    TRY(comm_self(&self, e));
    return begin_on(b, on, self, &(step_opts){.batch = 64, .micro = micro, .h = 32, .width = 1}, e);
}

static void a_pass_without_room_is_refused_with_one_that_fits(void **unused)
{
    bench b = {.leave_room = find_room};
    size_t left;
    double wants, there;
    int fits, leaves;
    err e = {0};

    (void)unused;
    ok(begin_wide(&b, 64, &e), &e);
    ok(b.on->left(b.on, &left, &e), &e);
    const double took = (double)(b.room - left) / 1048576;
    end(&b);
    b = (bench){.leave_room = leave_room, .room = (size_t)(took * 0.9 * 1048576)};
    assert_int_equal(begin_wide(&b, 64, &e), ERR_MEMORY);
    assert_int_equal(sscanf(e.text, "cuda:0: passes of 64 samples want %lf MiB and %lf are left for them; passes of %d fit, with leaves: %d",
                            &wants, &there, &fits, &leaves), 4);
    if (!(fabs(wants - took) <= 0.03 * took))
        fail_msg("%g MiB were predicted and %g taken", wants, took);
    assert_true(fits * leaves == 64 && fits < 64 && fabs(there - 0.9 * took) <= 0.01 * took);
    ok(b.on->left(b.on, &left, &e), &e);
    assert_true((double)(b.room - left) <= 0.02 * 1048576 * took); /* a flight's ring and words */
    end(&b);
    b = (bench){.leave_room = leave_room, .room = (size_t)(took * 0.9 * 1048576)};
    e = (err){0};
    ok(begin_wide(&b, fits, &e), &e);
    end(&b);
}

/* ---- gangs ---- */

typedef struct { dtype in; int fails_at; } gang_of;

static int joined(comm **gang, nn_backend **on, int rank, const char *path, err *e)
{
    char device[16];

    snprintf(device, sizeof device, "%d", rank);
    setenv("CUDA_VISIBLE_DEVICES", device, 1);
    setenv("STANDIN_CUDA", "devices=2", 1);
    TRY(nn_open(on, "cuda", 1, e));
    TRY(comm_shm(gang, path, rank, RANKS, 1 << 16, 60, e));
    TRY((*on)->join(*on, gang, 60, e));
    return comm_joins_devices(*gang) ? 0 : err_set(e, ERR_PEER, "they are not joined");
}

static int as_rank_0(comm *gang, const learned *mine, err *e)
{
    float *first = mem_copy(mine->w, mine->n * sizeof *first);
    int rc = comm_broadcast(gang, first, mine->n * sizeof *first, 0, e);

    if (rc == 0 && memcmp(first, mine->w, mine->n * sizeof *first) != 0)
        rc = err_set(e, ERR_PEER, "other weights than rank 0's");
    free(first);
    return rc;
}

/* What is counted is what there is to add: the gradient, and the losses with two words. */
static int counts_bytes(const bench *b, dtype in, err *e)
{
    const char *name = in == BF16 ? "bf16" : "f32";
    size_t bytes = step_weights(b->s) * (in == BF16 ? 2 : 4) + (BATCH + 2) * sizeof(float);
    char want[64];
    str said = {0};

    snprintf(want, sizeof want, "2 GPUs add %.3f MB a step in %s", (double)bytes / 1e6, name);
    step_describe(b->s, &said);
    int rc = strstr(said.at, want) ? 0 : err_set(e, ERR_INPUT, "%s, and not %s", said.at, want);
    str_free(&said);
    return rc;
}

/* Rank 0 writes what it learned; the others see that they have the same. */
static int be_rank(int rank, const char *path, gang_of how, int to, err *e)
{
    nn_backend *on;
    learned out;
    comm *gang;
    bench b = {0};

    TRY(joined(&gang, &on, rank, path, e));
    TRY(begin_on(&b, on, gang, &(step_opts){.micro = BATCH / RANKS, .sums_in = how.in}, e));
    TRY(counts_bytes(&b, how.in, e));
    learner l = {.from = {b.model, SIDE, SIDE}, .fails_at = how.fails_at, .nan_at = -1};
    TRY(learn(&b, &l, SOME, 0, &out, e));
    TRY(as_rank_0(gang, &out, e));
    if (rank == 0 && (write(to, &out, sizeof out) < 0 || write(to, out.w, out.n * sizeof *out.w) < 0))
        return err_set(e, ERR_IO, "a pipe");
    free(out.w);
    end(&b);
    return 0;
}

/* Its two ranks to their ends; texts of their errors. */
static learned run_gang(gang_of how, char text[RANKS][sizeof(err)])
{
    char path[64];
    int ends[RANKS][2], told[RANKS][2];
    pid_t child[RANKS];
    learned out = {0};

    snprintf(path, sizeof path, "/dev/shm/cfarm-test-flight-%d", (int)getpid());
    fflush(NULL);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(pipe(ends[r]) || pipe(told[r]), 0);
        child[r] = fork();
        if (child[r] == 0) {
            err e = {0};
            int rc = be_rank(r, path, how, told[r][1], &e);
            ssize_t n = write(ends[r][1], e.text, strlen(e.text));
            _exit(n < 0 ? 99 : rc);
        }
        close(ends[r][1]);
        close(told[r][1]);
    }
    for (int r = 0; r < RANKS; r++) {
        memset(text[r], 0, sizeof text[r]);
        if (r == 0 && read(told[r][0], &out, sizeof out) == sizeof out) {
            out.w = NEW_N(float, out.n);
            for (size_t have = 0, all = out.n * sizeof *out.w; have < all;) {
                ssize_t n = read(told[r][0], (char *)out.w + have, all - have);
                assert_true(n > 0);
                have += (size_t)n;
            }
        }
        assert_true(read(ends[r][0], text[r], sizeof text[r] - 1) >= 0);
        assert_int_equal(waitpid(child[r], NULL, 0), child[r]);
        close(ends[r][0]);
        close(told[r][0]);
    }
    unlink(path);
    return out;
}

static void gpus_that_sum_beside_the_backward_pass_learn_what_one_does(void **unused)
{
    char text[RANKS][sizeof(err)];

    (void)unused;
    learned one = alone("cuda", SOME, 0);
    for (dtype in = F32; in <= BF16; in++) {
        learned two = run_gang((gang_of){in, -1}, text);
        if (!two.w)
            fail_msg("%s: %s; %s", dtype_name(in), text[0], text[1]);
        near(&two, &one, in == F32 ? 1e-4 : 1e-2);
        free(two.w);
    }
    free(one.w);
}

static void a_sample_that_one_cannot_make_ends_all_of_them(void **unused)
{
    char text[RANKS][sizeof(err)];

    (void)unused;
    assert_null(run_gang((gang_of){F32, 1}, text).w);
    for (int r = 0; r < RANKS; r++) /* the last sample is rank 1's */
        if (!strstr(text[r], "picture 1 cannot be read"))
            fail_msg("rank %d: %s", r, text[r]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_begun_together_are_steps_told_one_by_one),
        cmocka_unit_test(a_gradient_is_clipped_as_the_cpu_does_it),
        cmocka_unit_test(what_goes_wrong_in_a_step_is_told_with_it),
        cmocka_unit_test(a_loop_of_steps_allocates_nothing_and_never_lets_the_device_wait),
        cmocka_unit_test(concepts_of_a_pack_learn_what_each_learns_alone),
        cmocka_unit_test(a_pass_without_room_is_refused_with_one_that_fits),
        cmocka_unit_test(gpus_that_sum_beside_the_backward_pass_learn_what_one_does),
        cmocka_unit_test(a_sample_that_one_cannot_make_ends_all_of_them),
    };

    setenv("CFARM_NCCL", getenv("CFARM_CUDA_PLUGIN"), 0);
    return cmocka_run_group_tests(tests, small_model_make, small_model_clear);
}
