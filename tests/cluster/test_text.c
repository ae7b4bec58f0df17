/* Errors as values, and text. */
#include "tests/cluster/scratch.h"

#include <signal.h>
#include <sys/wait.h>

#include "cluster/base/err.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

static void an_error_says_what_and_each_caller_adds_where(void **state)
{
    (void)state;
    err e = {0};
    assert_int_equal(err_set(&e, ERR_INPUT, "not a PNG, %s or WebP", "JPEG"), ERR_INPUT);
    assert_int_equal(err_wrap(&e, "data/cat/%d.png", 3), ERR_INPUT);
    assert_int_equal(err_wrap(&e, "step %d", 120), ERR_INPUT);
    assert_string_equal(e.text, "step 120: data/cat/3.png: not a PNG, JPEG or WebP");
    assert_int_equal(e.code, ERR_INPUT);
}

static void an_error_may_quote_itself(void **state)
{
    (void)state;
    err e;
    err_set(&e, ERR_IO, "gone");
    err_set(&e, ERR_PEER, "worker 3: %s", e.text);
    assert_string_equal(e.text, "worker 3: gone");
}

static void a_long_error_is_cut_and_terminated(void **state)
{
    (void)state;
    err e;
    char large[2000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    err_set(&e, ERR_IO, "%s", large);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    err_wrap(&e, "here");
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_true(str_starts(e.text, "here: xxx"));
    err_wrap(&e, "%s", large);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

static void nobody_listening_still_gets_a_failure(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_DEVICE, "lost"), ERR_DEVICE);
    assert_int_not_equal(err_wrap(NULL, "here"), 0);
}

static void our_own_mistake_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        signal(SIGABRT, SIG_DFL);
        CHECK(1 + 1 == 3);
        _exit(0);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
}

static void every_code_has_its_word(void **state)
{
    (void)state;
    static const char *const words[] = {"none", "input", "shape", "io", "memory", "device", "peer"};
    for (int c = ERR_NONE; c <= ERR_PEER; c++)
        assert_string_equal(err_name((err_code)c), words[c]);
    assert_string_equal(err_name((err_code)99), "unknown");
}

static void text_grows(void **state)
{
    (void)state;
    str s = {0};
    for (int i = 0; i < 1000; i++)
        str_add(&s, "%d,", i);
    assert_int_equal(s.n, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(s.at), s.n);
    assert_true(str_starts(s.at, "0,1,2,") && str_ends(s.at, ",998,999,"));
    str_put(&s, "a\0b", 3);
    assert_memory_equal(s.at + s.n - 3, "a\0b", 4);
    str_free(&s);
    assert_null(s.at);
    str_put(&s, NULL, 0);
    assert_string_equal(s.at, "");
    str_free(&s);
}

static void a_copy_says_whether_it_fitted(void **state)
{
    (void)state;
    char to[4];
    assert_true(str_copy(to, sizeof to, "abc"));
    assert_string_equal(to, "abc");
    assert_false(str_copy(to, sizeof to, "abcd"));
    assert_string_equal(to, "abc");
    assert_false(str_copy(to, 0, ""));
}

static void the_nearest_name_is_found_and_nonsense_is_not(void **state)
{
    (void)state;
    static const char *const known[] = {"steps", "seed", "batch", "lr", "regularisation", "prior_weight", NULL};
    static const struct {
        const char *word, *near;
    } rows[] = {
        {"stesp", "steps"},     {"step", "steps"},  {"Steps", "steps"}, {"baths", "batch"},   {"lrr", "lr"},
        {"sede", "seed"},       {"rl", "lr"},       {"xx", NULL},       {"banana", NULL},     {"", NULL},
        {"regularization", "regularisation"},       {"prior-weight", "prior_weight"},         {"a", NULL},
        {"0123456789012345678901234567890123456789012345678901234567890123456789", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *near = str_nearest(rows[i].word, known);
        if (rows[i].near)
            assert_string_equal(near ? near : rows[i].word, rows[i].near);
        else
            assert_null(near);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_says_what_and_each_caller_adds_where),
        cmocka_unit_test(an_error_may_quote_itself),
        cmocka_unit_test(a_long_error_is_cut_and_terminated),
        cmocka_unit_test(nobody_listening_still_gets_a_failure),
        cmocka_unit_test(our_own_mistake_ends_the_process),
        cmocka_unit_test(every_code_has_its_word),
        cmocka_unit_test(text_grows),
        cmocka_unit_test(a_copy_says_whether_it_fitted),
        cmocka_unit_test(the_nearest_name_is_found_and_nonsense_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
