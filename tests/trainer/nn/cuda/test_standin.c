/* Laws, over the stand-in (standin/standin.h): what a machine, a device or a run lacks is said in one sentence; after a
 * device is lost everything says so; what is wanted of a full one is told with what is free.
 *
 * The stand-in reads once what it is to play, so each case is a process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "trainer/nn/plan.h"

enum { TEXT = 512, WIDTH = 64 };

static nn_backend *on;

/* y = x x, twice: two calls and their copies. */
static int multiply(float *to, err *e)
{
    float x[WIDTH * WIDTH] = {1.0f};
    nn_graph *g = nn_graph_new();
    nn_params *w = nn_params_new(on);
    nn_tensor in = nn_input(g, "x", F32, NN_SHAPE(WIDTH, WIDTH)), y = nn_matmul(g, in, in, false, false);
    nn_plan *p = NULL;
    int rc = nn_plan_new(&p, g, w, &y, 1, e);

    if (rc == 0)
        rc = nn_write(p, in, x, sizeof x, e);
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = nn_run(p, e);
    if (rc == 0)
        rc = nn_read(p, y, to, sizeof x, e);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return rc;
}

static int open_only(err *e)
{
    return nn_open(&on, "cuda", 1, e);
}

static int open_third(err *e)
{
    return nn_open(&on, "cuda:2", 1, e);
}

static int run(err *e)
{
    float y[WIDTH * WIDTH];

    TRY(open_only(e));
    TRY(multiply(y, e));
    CHECK(y[0] == 1.0f);
    return 0;
}

static int run_again_after_a_failure(err *e)
{
    float y[WIDTH * WIDTH];

    TRY(open_only(e));
    CHECK(multiply(y, e) != 0);
    *e = (err){0};
    return multiply(y, e);
}

/* A product large enough that cuBLASLt's algorithms are tried. */
static int search(err *e)
{
    enum { N = 256 };
    nn_graph *g = nn_graph_new();
    nn_tensor x = nn_input(g, "x", F32, NN_SHAPE(N, N)), y = nn_matmul(g, x, x, false, false);
    nn_plan *p = NULL;

    TRY(open_only(e));
    nn_params *w = nn_params_new(on);
    int rc = nn_plan_new(&p, g, w, &y, 1, e);
    nn_plan_free(p);
    nn_params_free(w);
    nn_graph_free(g);
    return rc;
}

static int open_for_wgmma(err *e)
{
    setenv("CFARM_CUDA_ATTENTION", "wgmma", 1);
    return open_only(e);
}

static int fill_the_device(err *e)
{
    void *mem;

    TRY(open_only(e));
    return on->alloc(on, &mem, (size_t)3 << 20, e);
}

static const struct { const char *machine, *visible; int (*act)(err *e); err_code code; const char *says; } CASES[] = {
    {"", NULL, run, ERR_NONE, ""},
    {"driver=0", NULL, open_only, ERR_DEVICE, "this machine has no CUDA driver; use backend cpu here"},
    {"driver=12040", NULL, open_only, ERR_DEVICE, "the CUDA driver is for 12.4 and 13.0 is needed; update the driver"},
    {"devices=0", NULL, open_only, ERR_DEVICE, "the CUDA driver shows no device; see CUDA_VISIBLE_DEVICES"},
    {"devices=2", "", open_only, ERR_DEVICE, "the CUDA driver shows no device; see CUDA_VISIBLE_DEVICES"},
    {"devices=2", NULL, open_third, ERR_DEVICE, "there is no CUDA device 2; this process sees 2, counted from 0"},
    {"devices=4", "3,1", open_third, ERR_DEVICE, "there is no CUDA device 2; this process sees 2, counted from 0"},
    {"devices=4", "3,1,0", open_third, ERR_NONE, ""},
    {"major=7", NULL, open_only, ERR_DEVICE, "cuda:0 has compute capability 7 and 8.0 is needed"},
    {"major=9", NULL, open_for_wgmma, ERR_NONE, ""},
    {"major=8", NULL, open_for_wgmma, ERR_DEVICE, "CFARM_CUDA_ATTENTION=wgmma needs compute capability 9.0 and cuda:0 has 8.0; leave it unset"},
    {"memory=2097152", NULL, fill_the_device, ERR_MEMORY, "cuda:0: 3.0 MiB are wanted and 2.0 of its 2.0 MiB are free"},
    {"fail=1:ecc", NULL, run, ERR_DEVICE, "uncorrectable ECC error"},
    {"fail=2:ecc", NULL, run, ERR_DEVICE, "cuda:0: work on the device: uncorrectable ECC error encountered"},
    {"fail=3:address", NULL, run, ERR_DEVICE, "cuda:0: work on the device: an illegal memory access was encountered"},
    {"fail=3:ecc", NULL, search, ERR_DEVICE, "matmul: cuda:0: a copy, or work before it: uncorrectable ECC error encountered"},
    {"fail=20:lost", NULL, search, ERR_DEVICE, "matmul: cuda:0: a search: invalid device context"},
    {"refuse=1", NULL, run, ERR_DEVICE, "matmul: cuda:0: cuBLASLt: not initialized"},
    {"refuse=2", NULL, run, ERR_DEVICE, "matmul: cuda:0: cuBLASLt: not initialized"}, /* while it is recorded */
    {"fail=2:lost", NULL, run_again_after_a_failure, ERR_DEVICE, "invalid device context"},
};

static void in_a_process(size_t i, int to)
{
    err e = {0};

    setenv("STANDIN_CUDA", CASES[i].machine, 1);
    if (CASES[i].visible)
        setenv("CUDA_VISIBLE_DEVICES", CASES[i].visible, 1);
    int rc = CASES[i].act(&e);
    ssize_t n = write(to, e.text, strlen(e.text));
    fflush(NULL);
    _exit(n == (ssize_t)strlen(e.text) ? rc : 99);
}

static void what_is_missing_or_lost_is_said_in_one_sentence(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char text[TEXT] = "";
        int at[2], status;
        assert_int_equal(pipe(at), 0);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            in_a_process(i, at[1]);
        close(at[1]);
        for (ssize_t n = 0, all = 0; (n = read(at[0], text + all, (size_t)(TEXT - 1 - all))) > 0;)
            all += n;
        close(at[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != (int)CASES[i].code || !strstr(text, CASES[i].says))
            fail_msg("%s: status %x: %s", CASES[i].machine, (unsigned)status, text);
        assert_null(strchr(text, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_or_lost_is_said_in_one_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
