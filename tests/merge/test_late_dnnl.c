/* oneDNN by merge/late_dnnl.c: not in the process before its first call, the library itself afterwards, missed in a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <dnnl.h>

static bool is_loaded(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    bool found = false;
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        found = found || strstr(line, "libdnnl");
    fclose(f);
    return found;
}

static void comes_with_its_first_call_and_multiplies(void **state)
{
    float a[2][3] = {{1, 2, 3}, {4, 5, 6}}, b[3][2] = {{1, 0}, {0, 1}, {2, -1}}, c[2][2];
    static dnnl_engine_t engine; /* for the process, as in cpu_dnnl.c */
    static dnnl_stream_t stream;
    dnnl_memory_desc_t da, db, dc;
    dnnl_matmul_desc_t m;
    dnnl_primitive_desc_t plan;
    dnnl_primitive_t run;
    dnnl_exec_arg_t arg[3] = {{DNNL_ARG_SRC, NULL}, {DNNL_ARG_WEIGHTS, NULL}, {DNNL_ARG_DST, NULL}};
    (void)state;
    assert_false(is_loaded());
    assert_int_equal(dnnl_engine_create(&engine, dnnl_cpu, 0), dnnl_success);
    assert_true(is_loaded());
    assert_int_equal(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), dnnl_success);
    dnnl_memory_desc_init_by_strides(&da, 2, (dnnl_dims_t){2, 3}, dnnl_f32, (dnnl_dims_t){3, 1});
    dnnl_memory_desc_init_by_strides(&db, 2, (dnnl_dims_t){3, 2}, dnnl_f32, (dnnl_dims_t){2, 1});
    dnnl_memory_desc_init_by_strides(&dc, 2, (dnnl_dims_t){2, 2}, dnnl_f32, (dnnl_dims_t){2, 1});
    assert_int_equal(dnnl_memory_create(&arg[0].memory, &da, engine, a), dnnl_success);
    assert_int_equal(dnnl_memory_create(&arg[1].memory, &db, engine, b), dnnl_success);
    assert_int_equal(dnnl_memory_create(&arg[2].memory, &dc, engine, c), dnnl_success);
    assert_int_equal(dnnl_matmul_desc_init(&m, &da, &db, NULL, &dc), dnnl_success);
    assert_int_equal(dnnl_primitive_desc_create(&plan, &m, NULL, engine, NULL), dnnl_success);
    assert_int_equal(dnnl_primitive_create(&run, plan), dnnl_success);
    assert_int_equal(dnnl_primitive_execute(run, stream, 3, arg), dnnl_success);
    assert_int_equal(dnnl_stream_wait(stream), dnnl_success);
    assert_memory_equal(c, ((float[2][2]){{7, -1}, {16, -1}}), sizeof c);
    dnnl_primitive_destroy(run);
    dnnl_primitive_desc_destroy(plan);
    for (int i = 0; i < 3; i++)
        dnnl_memory_destroy(arg[i].memory);
}

/* An empty file stands for a library that cannot be loaded. */
static void is_missed_in_a_sentence(void **state)
{
    char dir[] = "/tmp/cf-late-XXXXXX", file[64], line[512] = "";
    int to[2], status;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/libdnnl.so.%d", dir, DNNL_VERSION_MAJOR);
    fclose(fopen(file, "w"));
    assert_int_equal(pipe(to), 0);
    if (fork() == 0) {
        setenv("LD_LIBRARY_PATH", dir, 1);
        dup2(to[1], STDERR_FILENO);
        execl("/proc/self/exe", "test_late_dnnl", "once", (char *)NULL);
        _exit(99);
    }
    close(to[1]);
    assert_true(read(to[0], line, sizeof line - 1) > 0);
    wait(&status);
    unlink(file);
    rmdir(dir);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(line, "models are computed by oneDNN, which cannot be loaded: "));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_with_its_first_call_and_multiplies),
        cmocka_unit_test(is_missed_in_a_sentence),
    };
    if (argc > 1 && strcmp(argv[1], "once") == 0)
        return (int)dnnl_get_effective_cpu_isa() + 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
