/* Laws: a machine without CUDA, or with too little of it, is told so in one sentence; a plugin of another build is
 * refused before it is used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/nn/cuda/cuda_entry.h"

static void one_sentence(const err *e, err_code code, const char *says)
{
    if (e->code != code || !strstr(e->text, says))
        fail_msg("%s: %s", err_name(e->code), e->text);
    assert_null(strchr(e->text, '\n'));
    assert_true(e->text[0] != '\0' && e->text[strlen(e->text) - 1] != '.');
}

static void a_plugin_is_there_whole_and_of_this_build(void **unused)
{
    static const struct { const char *file, *says; } ROWS[] = {
        {"plugin_absent.so", "does not load"},
        {"CTestTestfile.cmake", "does not load"},
        {"plugin_no_entry.so", "is not a CUDA backend"},
        {"plugin_another_build.so", "of another build"},
        {"plugin_refuses.so", "there is no CUDA device 3"},
    };
    char path[512];
    nn_backend *b = NULL;

    (void)unused;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        err e = {0};
        snprintf(path, sizeof path, "%s/%s", PLUGINS, ROWS[i].file);
        assert_int_equal(nn_cuda_open_from(&b, path, 3, &e), ERR_DEVICE);
        one_sentence(&e, ERR_DEVICE, ROWS[i].says);
    }
    assert_null(b);
}

/* True of every machine: without the plugin, without a driver, and with eight devices. */
static void a_device_that_is_not_there_is_named(void **unused)
{
    nn_backend *b;
    err e = {0};

    (void)unused;
    assert_int_equal(nn_cuda_open(&b, 9999, &e), ERR_DEVICE);
    one_sentence(&e, ERR_DEVICE, "");
}

static void a_backend_is_called_by_its_name(void **unused)
{
    static const char *const WRONG[] = {"", "gpu", "cuda3", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda: 1",
                                        "cuda:99999999999999999999", "CPU", "cpu:0"};
    nn_backend *b;

    (void)unused;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        err e = {0};
        assert_int_equal(nn_open(&b, WRONG[i], 1, &e), ERR_INPUT);
        one_sentence(&e, ERR_INPUT, "there is no backend");
    }
    assert_int_equal(nn_open(&b, "cpu", 1, NULL), 0);
    assert_string_equal(b->name, "cpu");
    b->close(b);
    err e = {0};
    assert_int_equal(nn_open(&b, "cuda:9999", 1, &e), ERR_DEVICE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plugin_is_there_whole_and_of_this_build),
        cmocka_unit_test(a_device_that_is_not_there_is_named),
        cmocka_unit_test(a_backend_is_called_by_its_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
