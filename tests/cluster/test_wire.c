/* Frames from honest and hostile senders, and the loop that listens to many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/wire/loop.h"
#include "cluster/wire/wire.h"

/* ---- frames --------------------------------------------------------------------------------------------------- */

static void a_frame_comes_out_as_it_went_in(void **unused)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4096, 70000};
    (void)unused;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *body = mem_new(sizes[i] + 1, 1);
        wire_frame f;
        size_t used;
        str s = {0};
        memset(body, (int)i + 65, sizes[i]);
        wire_encode(&s, (uint16_t)(i + 1), body, sizes[i]);
        assert_int_equal(wire_decode(s.at, s.n, &f, &used, NULL), 0);
        assert_int_equal(used, WIRE_HEAD + sizes[i]);
        assert_int_equal(f.type, i + 1);
        assert_int_equal(f.n, sizes[i]);
        assert_memory_equal(f.body, body, sizes[i]);
        str_free(&s);
        free(body);
    }
}

static void cut_anywhere_more_is_needed(void **unused)
{
    wire_frame f;
    size_t used;
    str s = {0};
    (void)unused;
    wire_encode(&s, 7, "some words", 10);
    for (size_t cut = 0; cut < s.n; cut++) {
        char *exact = mem_copy(s.at, cut + 1); /* so that a sanitizer sees a step too far */
        assert_int_equal(wire_decode(exact, cut, &f, &used, NULL), 0);
        assert_int_equal(used, 0);
        assert_int_equal(f.type, 0);
        free(exact);
    }
    str_free(&s);
}

static void a_flipped_bit_is_never_a_frame(void **unused)
{
    str s = {0};
    (void)unused;
    wire_encode(&s, 7, "some words", 10);
    for (size_t bit = 0; bit < 8 * s.n; bit++) {
        wire_frame f;
        size_t used;
        s.at[bit / 8] = (char)(s.at[bit / 8] ^ 1 << bit % 8);
        (void)wire_decode(s.at, s.n, &f, &used, NULL); /* refused, or waiting for the length it claims */
        assert_int_equal(f.type, 0);
        s.at[bit / 8] = (char)(s.at[bit / 8] ^ 1 << bit % 8);
    }
    str_free(&s);
}

static void strangers_are_turned_away_at_their_first_wrong_byte(void **unused)
{
    static const struct { const char *bytes; size_t n; const char *says; } row[] = {
        {"GET / HTTP/1.1\r\n", 1, "does not speak"}, {"cfx", 3, "does not speak"}, {"cfw\2", 4, "version 2"},
        {"cfw\1\0\0\0\0", 8, "no known kind"}, {"cfw\1\1\0\1\0", 8, "no known kind"},
        {"cfw\1\1\0\0\0\1\0\0\1", 12, "16777217 bytes"}, {"cfw\1\1\0\0\0\0\0\0\0\0\0\0\0", 16, "damaged"},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        wire_frame f;
        size_t used;
        err e = {0};
        assert_int_equal(wire_decode(row[i].bytes, row[i].n, &f, &used, &e), ERR_PEER);
        assert_non_null(strstr(e.text, row[i].says));
    }
}

static void random_bytes_harm_nobody(void **unused)
{
    (void)unused;
    for (uint32_t i = 0; i < 20000; i++) {
        rng_stream r = rng_open(1, "bytes", i, 0);
        size_t n = rng_below(r, 0, 40), used;
        unsigned char *b = mem_new(n + 1, 1);
        wire_frame f;
        for (size_t k = 0; k < n; k++)
            b[k] = (unsigned char)rng_below(r, k + 1, 256);
        if (rng_below(r, 99, 2) && n >= 4)
            memcpy(b, "cfw\1", 4);
        (void)wire_decode(b, n, &f, &used, NULL);
        assert_true(used <= n);
        free(b);
    }
}

/* ---- connections ---------------------------------------------------------------------------------------------- */

typedef struct { wire *a, *b; int raw; } pair;

static pair pair_new(void)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    return (pair){wire_new(ends[0]), wire_new(ends[1]), ends[0]};
}

static void pair_free(pair *p)
{
    wire_free(p->a);
    wire_free(p->b);
}

static void frames_keep_their_order_through_any_chunks(void **unused)
{
    pair p = pair_new();
    static const char body[60];
    str all = {0};
    wire_frame f;
    (void)unused;
    for (uint16_t i = 1; i <= 50; i++)
        wire_encode(&all, i, body, i * 7u % sizeof body);
    for (size_t at = 0, next = 1; at < all.n || next <= 50;) {
        size_t n = all.n - at < 13 ? all.n - at : 13;
        assert_int_equal(send(p.raw, all.at + at, n, 0), (ssize_t)n);
        at += n;
        do {
            assert_int_equal(wire_take(p.b, &f, 0, NULL), 0);
            if (f.type)
                assert_int_equal(f.type, next++);
        } while (f.type);
    }
    str_free(&all);
    pair_free(&p);
}

static void nothing_in_time_is_no_frame(void **unused)
{
    pair p = pair_new();
    wire_frame f;
    int64_t since = clock_ns();
    (void)unused;
    assert_int_equal(wire_take(p.b, &f, 0.05, NULL), 0);
    assert_int_equal(f.type, 0);
    assert_true(clock_ns() - since >= 45000000);
    pair_free(&p);
}

/* What was said before the end is heard, and then the end. */
static void the_end_comes_after_the_last_frame(void **unused)
{
    pair p = pair_new();
    wire_frame f;
    err e = {0};
    (void)unused;
    assert_int_equal(wire_send(p.a, 3, "bye", 3, 1, NULL), 0);
    wire_free(p.a);
    p.a = NULL;
    assert_int_equal(wire_take(p.b, &f, -1, &e), 0);
    assert_int_equal(f.type, 3);
    assert_int_equal(wire_take(p.b, &f, -1, &e), ERR_PEER);
    assert_non_null(strstr(e.text, "gone"));
    pair_free(&p);
}

static void who_does_not_listen_is_given_up(void **unused)
{
    pair p = pair_new();
    size_t n = 4 << 20;
    char *much = mem_new(n, 1);
    err e = {0};
    (void)unused;
    assert_int_equal(wire_send(p.a, 1, much, n, 0.1, &e), ERR_PEER);
    assert_non_null(strstr(e.text, "takes nothing"));
    free(much);
    pair_free(&p);
}

static void sending_to_one_who_left_is_an_error_and_no_signal(void **unused)
{
    pair p = pair_new();
    (void)unused;
    wire_free(p.b);
    p.b = NULL;
    assert_int_equal(wire_send(p.a, 1, "x", 1, 1, NULL), ERR_PEER);
    pair_free(&p);
}

static void only_objects_are_messages(void **unused)
{
    static const char *const body[] = {"", "{", "[1]", "3", "{\"a\":1}x", "\xff"};
    json_t *o;
    (void)unused;
    for (size_t i = 0; i < sizeof body / sizeof body[0]; i++) {
        wire_frame f = {1, body[i], strlen(body[i])};
        assert_int_not_equal(wire_parse(&f, &o, NULL), 0);
    }
    wire_frame good = {1, "{\"a\":1}", 7};
    assert_int_equal(wire_parse(&good, &o, NULL), 0);
    json_decref(o);
}

/* ---- the loop ------------------------------------------------------------------------------------------------- */

typedef struct { loop *l; wire *w[2]; int heard, dropped, signals; } listener;

/* The first to be heard drops both: the other's event, already waiting, must not arrive. */
static void drop_both(void *arg, bool readable, bool writable)
{
    listener *x = arg;

    (void)readable, (void)writable;
    x->heard++;
    for (int i = 0; i < 2; i++) {
        loop_drop(x->l, wire_fd(x->w[i]));
        x->dropped++;
    }
}

static void a_dropped_descriptor_is_not_heard_again(void **unused)
{
    pair p = pair_new(), q = pair_new();
    listener x = {.l = loop_new(), .w = {p.b, q.b}};
    (void)unused;
    loop_add(x.l, wire_fd(p.b), drop_both, &x);
    loop_add(x.l, wire_fd(q.b), drop_both, &x);
    wire_send(p.a, 1, "", 0, 1, NULL);
    wire_send(q.a, 1, "", 0, 1, NULL);
    loop_turn(x.l, 1000);
    loop_turn(x.l, 10);
    assert_int_equal(x.heard, 1);
    loop_free(x.l);
    pair_free(&p);
    pair_free(&q);
}

static void on_signal(void *arg, int signal)
{
    listener *x = arg;
    x->signals += signal == SIGUSR2;
}

static void signals_arrive_in_the_loop(void **unused)
{
    static const int signals[] = {SIGUSR2, -1};
    listener x = {.l = loop_new()};
    (void)unused;
    loop_signals(x.l, on_signal, &x, signals);
    raise(SIGUSR2);
    loop_turn(x.l, 1000);
    assert_int_equal(x.signals, 1);
    loop_free(x.l);
}

/* ---- sealed connections --------------------------------------------------------------------------------------- */

typedef struct { wire *a, *b; char na[WIRE_NONCE], nb[WIRE_NONCE]; } sealed;

static sealed sealed_pair(const char *one, const char *other)
{
    sealed s;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    s.a = wire_new(ends[0]);
    s.b = wire_new(ends[1]);
    assert_int_equal(wire_nonce(s.na, NULL), 0);
    assert_int_equal(wire_nonce(s.nb, NULL), 0);
    assert_int_equal(wire_seal(s.a, one, s.na, s.nb, NULL), 0);
    assert_int_equal(wire_seal(s.b, other, s.nb, s.na, NULL), 0);
    return s;
}

static void sealed_free(sealed *s)
{
    wire_free(s->a);
    wire_free(s->b);
}

static void who_knows_the_secret_is_understood(void **unused)
{
    sealed s = sealed_pair("secret", "secret");
    wire_frame f;
    (void)unused;
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(wire_send(s.a, (uint16_t)i, "some words", 10, 1, NULL), 0);
        assert_int_equal(wire_take(s.b, &f, 1, NULL), 0);
        assert_int_equal(f.type, i);
        assert_memory_equal(f.body, "some words", 10);
        assert_int_equal(wire_send(s.b, 9, "", 0, 1, NULL), 0);
        assert_int_equal(wire_take(s.a, &f, 1, NULL), 0);
        assert_int_equal(f.type, 9);
    }
    sealed_free(&s);
}

static void who_does_not_is_not(void **unused)
{
    sealed s = sealed_pair("secret", "guess");
    wire_frame f;
    (void)unused;
    assert_int_equal(wire_send(s.b, 1, "some words", 10, 1, NULL), 0);
    assert_int_equal(wire_take(s.a, &f, 1, NULL), ERR_PEER);
    sealed_free(&s);
}

static void a_nonce_sent_back_is_refused(void **unused)
{
    int ends[2];
    char mine[WIRE_NONCE];
    wire *w;
    (void)unused;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    w = wire_new(ends[0]);
    assert_int_equal(wire_nonce(mine, NULL), 0);
    assert_int_equal(wire_seal(w, "secret", mine, mine, NULL), ERR_PEER);
    assert_int_equal(wire_seal(w, "secret", mine, "short", NULL), ERR_PEER);
    wire_free(w);
    close(ends[1]);
}

/* What one side has sent, as bytes, to be played to the other in whatever way. */
static size_t capture(sealed *s, char *bytes, size_t room, const char *const words[], int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(wire_send(s->a, (uint16_t)(i + 1), words[i], strlen(words[i]), 1, NULL), 0);
    ssize_t k = recv(wire_fd(s->b), bytes, room, 0);
    assert_true(k > 0);
    return (size_t)k;
}

static int play(sealed *s, const char *bytes, size_t n, int frames)
{
    wire_frame f;
    int rc = 0;

    assert_int_equal(send(wire_fd(s->a), bytes, n, 0), n);
    for (int i = 0; i < frames && rc == 0; i++)
        rc = wire_take(s->b, &f, 0.01, NULL);
    return rc;
}

static void a_bit_altered_anywhere_ends_the_connection(void **unused)
{
    static const char *const words[] = {"some words"};
    enum { FRAME = WIRE_HEAD + 10 + 32 };
    (void)unused;
    for (size_t bit = 0; bit < FRAME * 8; bit++) {
        sealed s = sealed_pair("secret", "secret");
        char bytes[200];
        wire_frame f = {0};
        assert_int_equal(capture(&s, bytes, sizeof bytes, words, 1), FRAME);
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ (1 << bit % 8));
        assert_int_equal(send(wire_fd(s.a), bytes, FRAME, 0), FRAME);
        int rc = wire_take(s.b, &f, 0, NULL);
        assert_true(rc == ERR_PEER || f.type == 0); /* a length that grew waits for more */
        sealed_free(&s);
    }
}

static void a_frame_repeated_left_out_or_turned_round_ends_the_connection(void **unused)
{
    static const char *const words[] = {"one", "two"};
    enum { FRAME = WIRE_HEAD + 3 + 32 };
    char bytes[200], other[2 * FRAME];
    (void)unused;
    for (int how = 0; how < 4; how++) {
        sealed s = sealed_pair("secret", "secret");
        assert_int_equal(capture(&s, bytes, sizeof bytes, words, 2), 2 * FRAME);
        memcpy(other, bytes + (how == 1 || how == 2 ? FRAME : 0), FRAME);  /* 0: one one; 1: two one; 2: two */
        memcpy(other + FRAME, bytes, FRAME);
        if (how == 3) /* 3: as they were */
            memcpy(other, bytes, 2 * FRAME);
        assert_int_equal(play(&s, other, how == 2 ? FRAME : 2 * FRAME, 2), how == 3 ? 0 : ERR_PEER);
        sealed_free(&s);
    }
}

static void a_frame_without_a_seal_is_refused_where_one_is_due(void **unused)
{
    sealed s = sealed_pair("secret", "secret");
    str bare = {0};
    (void)unused;
    wire_encode(&bare, 1, "some words", 10);
    assert_int_equal(play(&s, bare.at, bare.n, 1), ERR_PEER);
    str_free(&bare);
    sealed_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_comes_out_as_it_went_in),
        cmocka_unit_test(cut_anywhere_more_is_needed),
        cmocka_unit_test(a_flipped_bit_is_never_a_frame),
        cmocka_unit_test(strangers_are_turned_away_at_their_first_wrong_byte),
        cmocka_unit_test(random_bytes_harm_nobody),
        cmocka_unit_test(frames_keep_their_order_through_any_chunks),
        cmocka_unit_test(nothing_in_time_is_no_frame),
        cmocka_unit_test(the_end_comes_after_the_last_frame),
        cmocka_unit_test(who_does_not_listen_is_given_up),
        cmocka_unit_test(sending_to_one_who_left_is_an_error_and_no_signal),
        cmocka_unit_test(only_objects_are_messages),
        cmocka_unit_test(a_dropped_descriptor_is_not_heard_again),
        cmocka_unit_test(signals_arrive_in_the_loop),
        cmocka_unit_test(who_knows_the_secret_is_understood),
        cmocka_unit_test(who_does_not_is_not),
        cmocka_unit_test(a_nonce_sent_back_is_refused),
        cmocka_unit_test(a_bit_altered_anywhere_ends_the_connection),
        cmocka_unit_test(a_frame_repeated_left_out_or_turned_round_ends_the_connection),
        cmocka_unit_test(a_frame_without_a_seal_is_refused_where_one_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
