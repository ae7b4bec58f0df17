/* What goes in and out as text for programs: JSON, logs, hashes, times. */
#include "tests/cluster/scratch.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <time.h>

#include "cluster/base/clock.h"
#include "cluster/base/hash.h"
#include "cluster/base/json.h"
#include "cluster/base/log.h"
#include "cluster/base/str.h"

static void broken_json_is_told_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"{\n  \"a\": 1,\n  \"b\": }\n", "x.json:3:8: unexpected token near '}'"},
        {"{\"a\": 1, \"a\": 2}", "x.json:1:12: duplicate object key near '\"a\"'"},
        {"", "x.json:1:0: '[' or '{' expected near end of file"},
        {"[1, 2", "x.json:1:5: ']' expected near end of file"},
        {"[\"\x80\"]", "x.json:1:2: unable to decode byte 0x80 near '\"'"},
        {"{} x", "x.json:1:4: end of file expected near 'x'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *o;
        err e;
        assert_int_equal(json_parse(&o, rows[i].text, strlen(rows[i].text), "x.json", &e), ERR_INPUT);
        assert_string_equal(e.text, rows[i].said);
        assert_null(o);
    }
}

static const char SETTINGS[] = "{\"steps\": 250, \"lr\": 8e-5, \"name\": \"rex\", \"flip\": true, \"none\": null, "
                               "\"list\": [1, 2], \"long\": \"0123456789012345678901234567890123456789012345678901\"}";

static json_t *settings(void)
{
    json_t *o;
    assert_int_equal(json_parse(&o, SETTINGS, sizeof SETTINGS - 1, "x", NULL), 0);
    return o;
}

static void what_is_there_is_got(void **state)
{
    (void)state;
    json_t *o = settings();
    int64_t i;
    double f;
    bool b;
    const char *s;
    assert_true(json_get_int(o, "steps", 1, 1000, &i, NULL) == 0 && i == 250);
    assert_true(json_get_real(o, "lr", &f, NULL) == 0 && f == 8e-5);
    assert_true(json_get_real(o, "steps", &f, NULL) == 0 && f == 250);
    assert_true(json_get_text(o, "name", &s, NULL) == 0 && strcmp(s, "rex") == 0);
    assert_true(json_opt_bool(o, "flip", false, &b, NULL) == 0 && b);
    assert_true(json_opt_int(o, "none", 0, 9, 7, &i, NULL) == 0 && i == 7);
    assert_true(json_opt_int(o, "absent", 0, 9, 8, &i, NULL) == 0 && i == 8);
    assert_true(json_opt_real(o, "absent", 0.5, &f, NULL) == 0 && f == 0.5);
    assert_true(json_opt_bool(o, "none", true, &b, NULL) == 0 && b);
    assert_true(json_opt_text(o, "absent", "cat", &s, NULL) == 0 && strcmp(s, "cat") == 0);
    json_decref(o);
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    json_t *o = settings();
    int64_t i;
    double f;
    bool b;
    const char *s;
    err e;
    assert_int_equal(json_get_int(o, "steps", 1, 100, &i, &e), ERR_INPUT);
    assert_string_equal(e.text, "key 'steps' is 250, not a whole number from 1 to 100");
    assert_int_equal(json_get_int(o, "lr", INT64_MIN, INT64_MAX, &i, &e), ERR_INPUT);
    assert_true(str_starts(e.text, "key 'lr' is 8.00"));
    assert_true(str_ends(e.text, "e-5, not a whole number") || str_ends(e.text, "e-05, not a whole number"));
    assert_int_equal(json_get_int(o, "stesp", 0, 1, &i, &e), ERR_INPUT);
    assert_string_equal(e.text, "key 'stesp' is missing; it is a whole number from 0 to 1");
    assert_int_equal(json_get_real(o, "name", &f, &e), ERR_INPUT);
    assert_string_equal(e.text, "key 'name' is \"rex\", not a number");
    assert_int_equal(json_get_text(o, "list", &s, &e), ERR_INPUT);
    assert_string_equal(e.text, "key 'list' is [1,2], not a text");
    assert_int_equal(json_get_real(o, "long", &f, &e), ERR_INPUT);
    assert_string_equal(e.text, "key 'long' is \"012345678901234567890123456789012345678..., not a number");
    assert_int_equal(json_get_text(o, "none", &s, &e), ERR_INPUT);
    assert_string_equal(e.text, "key 'none' is null, not a text");
    assert_int_equal(json_opt_bool(o, "steps", false, &b, &e), ERR_INPUT);
    assert_string_equal(e.text, "key 'steps' is 250, not true or false");
    assert_int_equal(json_opt_text(o, "steps", "", &s, &e), ERR_INPUT);
    assert_int_equal(json_opt_real(o, "flip", 0, &f, &e), ERR_INPUT);
    assert_int_equal(json_opt_int(o, "name", 0, 1, 0, &i, &e), ERR_INPUT);
    json_decref(o);
}

static void a_json_file_is_named_in_its_errors(void **state)
{
    (void)state;
    err e;
    json_t *o;
    assert_int_equal(json_read(&o, in_scratch("none.json"), &e), ERR_IO);
    assert_said(e.text, "@/none.json: cannot open: no such file or directory");
    assert_int_equal(fs_write(in_scratch("bad.json"), "{\n1}", 4, NULL), 0);
    assert_int_equal(json_read(&o, in_scratch("bad.json"), &e), ERR_INPUT);
    assert_said(e.text, "@/bad.json:2:1: string or '}' expected near '1'");
}

static void an_event_is_a_line_for_people_and_a_line_for_programs(void **state)
{
    (void)state;
    logger *l;
    char *text;
    size_t n;
    FILE *people = fopen(in_scratch("people"), "w");
    assert_int_equal(log_open(&l, people, in_scratch("log.jsonl"), NULL), 0);
    log_event(l, "step", INT("step", 120), REAL("loss", 0.0831), TEXT("name", "rex \"dog\"\n"));
    log_event(l, "odd", REAL("loss", NAN), REAL("least", -INFINITY), TEXT("none", NULL), TEXT("bytes", "\x80"));
    log_progress(l, "no terminal, so nothing");
    log_event(NULL, "nobody", INT("i", 1));
    log_close(l);
    log_close(NULL);
    fclose(people);

    assert_int_equal(fs_read(in_scratch("people"), &text, &n, 1 << 16, NULL), 0);
    assert_string_equal(strchr(text, ' '), strstr(text, " step step 120 loss 0.0831 name rex \"dog\" \n"));
    assert_null(strstr(text, "terminal"));
    assert_non_null(strstr(text, " odd loss nan least -inf none - bytes \x80\n"));
    free(text);

    assert_int_equal(fs_read(in_scratch("log.jsonl"), &text, &n, 1 << 16, NULL), 0);
    char *second = strchr(text, '\n') + 1;
    second[-1] = 0;
    json_t *o;
    assert_int_equal(json_parse(&o, text, strlen(text), "log", NULL), 0);
    assert_string_equal(json_string_value(json_object_get(o, "event")), "step");
    assert_string_equal(json_string_value(json_object_get(o, "name")), "rex \"dog\"\n");
    assert_true(json_integer_value(json_object_get(o, "step")) == 120);
    assert_true(json_real_value(json_object_get(o, "loss")) == 0.0831);
    assert_int_equal(strlen(json_string_value(json_object_get(o, "time"))), strlen("2026-11-22T21:04:05.123Z"));
    json_decref(o);
    assert_int_equal(json_parse(&o, second, strlen(second), "log", NULL), 0);
    assert_string_equal(json_string_value(json_object_get(o, "loss")), "nan");
    assert_true(json_is_null(json_object_get(o, "none")));
    json_decref(o);
    free(text);
}

/* The kernel hands a terminal's bytes on piece by piece. */
static void read_until(int fd, const char *end, char *got, size_t room)
{
    size_t n = 0;
    got[0] = 0;
    while (n + 1 < room && !strstr(got, end)) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 10000), 1);
        ssize_t more = read(fd, got + n, room - 1 - n);
        assert_true(more > 0);
        got[n += (size_t)more] = 0;
    }
}

static void progress_is_for_terminals_and_not_too_often(void **state)
{
    (void)state;
    int control = posix_openpt(O_RDWR | O_NOCTTY);
    if (control < 0 || grantpt(control) != 0 || unlockpt(control) != 0)
        skip(); /* a machine without pseudo-terminals */
    FILE *terminal = fopen(ptsname(control), "w");
    assert_non_null(terminal);
    logger *l;
    assert_int_equal(log_open(&l, terminal, NULL, NULL), 0);
    for (int i = 0; i < 1000; i++)
        log_progress(l, "step %d.", i);
    log_event(l, "done", INT("steps", 1000));
    log_close(l);
    char got[4096];
    read_until(control, " done steps 1000", got, sizeof got);
    assert_true(str_starts(got, "\r\033[Kstep 0.\r\033[K")); /* shown once, then wiped by the event's line */
    assert_null(strstr(got, "step 1."));
    assert_non_null(strstr(got, " done steps 1000"));
    fclose(terminal);
    close(control);
}

static void a_log_that_cannot_be_opened_is_told(void **state)
{
    (void)state;
    logger *l;
    err e;
    assert_int_equal(log_open(&l, NULL, in_scratch("no/log"), &e), ERR_IO);
    assert_said(e.text, "@/no/log: cannot open: no such file or directory");
    assert_null(l);
}

/* FIPS 180-2 B.1, B.2, B.3 and the empty text. */
static void sha256_gives_the_published_digests(void **state)
{
    (void)state;
    char hex[HASH_HEX];
    hash_bytes("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_bytes("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *a = malloc(1000000);
    memset(a, 'a', 1000000);
    hash *h = hash_new();
    hash_add(h, a, 1);
    hash_add(h, a, 999999);
    hash_end(h, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_int_equal(fs_write(in_scratch("million"), a, 1000000, NULL), 0);
    free(a);
    char of_file[HASH_HEX];
    assert_int_equal(hash_file(in_scratch("million"), of_file, NULL), 0);
    assert_string_equal(of_file, hex);
    err e;
    assert_int_equal(hash_file(in_scratch("none"), hex, &e), ERR_IO);
    assert_said(e.text, "@/none: cannot open: no such file or directory");
    assert_int_equal(hash_file(scratch, hex, &e), ERR_IO);
    assert_said(e.text, "@: cannot read: is a directory");
}

static void crc32_gives_the_published_check(void **state)
{
    (void)state;
    assert_int_equal(hash_crc32(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(hash_crc32(hash_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
    assert_int_equal(hash_crc32(0, "", 0), 0);
}

static void times_are_spelled_in_utc(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *iso;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1795381445123, "2026-11-22T21:04:05.123Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
    };
    setenv("TZ", "Asia/Tokyo", 1);
    tzset();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char iso[32];
        clock_iso(iso, rows[i].ms);
        assert_string_equal(iso, rows[i].iso);
    }
    int64_t a = clock_ns(), b = clock_ns();
    assert_true(b >= a);
    assert_true(clock_wall_ms() > 1700000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_json_is_told_with_its_place),
        cmocka_unit_test(what_is_there_is_got),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(a_json_file_is_named_in_its_errors),
        cmocka_unit_test(an_event_is_a_line_for_people_and_a_line_for_programs),
        cmocka_unit_test(progress_is_for_terminals_and_not_too_often),
        cmocka_unit_test(a_log_that_cannot_be_opened_is_told),
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(crc32_gives_the_published_check),
        cmocka_unit_test(times_are_spelled_in_utc),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
