/* The time that is left, and the time there is. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "scheduler/eta.h"
#include "scheduler/forecast.h"
#include "scheduler/limit.h"

enum { FARMS = 300, CONCEPTS = 60, SLOTS = 4 };

/* Concepts of one to nine hundred samples, each sample 0.1 s times a lognormal factor of the concept. */
typedef struct { double samples, seconds; } concept;

static void make(uint64_t seed, concept out[CONCEPTS])
{
    for (uint64_t i = 0; i < CONCEPTS; i++) {
        rng_stream of = rng_open(seed, "eta", 0, 0);
        out[i].samples = 100 + 800 * (double)rng_uniform(of, 2 * i);
        out[i].seconds = out[i].samples * 0.1 * exp(0.3 * (double)rng_normal(rng_open(seed, "eta normal", 0, 0), i));
    }
}

/* List scheduling from concept `from` on, on free slots: the makespan. */
static double makespan(const concept *c, int from)
{
    double end[SLOTS] = {0}, last = 0;

    for (int i = from; i < CONCEPTS; i++) {
        int least = 0;
        for (int s = 1; s < SLOTS; s++)
            if (end[s] < end[least])
                least = s;
        end[least] += c[i].seconds;
        if (end[least] > last)
            last = end[least];
    }
    return last;
}

static eta_answer ask_at(const concept *c, int done)
{
    eta_work w = {.slots = SLOTS};
    eta_answer a = {0};
    eta t = {0};

    for (int i = 0; i < done; i++)
        eta_learn(&t, c[i].seconds, c[i].samples);
    for (int i = done; i < CONCEPTS; i++) {
        w.samples += c[i].samples;
        w.concepts++;
        w.longest = c[i].samples > w.longest ? c[i].samples : w.longest;
    }
    assert_true(eta_ask(&t, &w, &a));
    return a;
}

static void the_interval_holds_the_truth_and_narrows(void **unused)
{
    int held[3] = {0}, at[3] = {2, 20, 40};
    double width[3] = {0};
    (void)unused;
    for (uint64_t seed = 1; seed <= FARMS; seed++) {
        concept c[CONCEPTS];
        make(seed, c);
        for (int k = 0; k < 3; k++) {
            double truth = makespan(c, at[k]);
            eta_answer a = ask_at(c, at[k]);
            assert_true(a.low <= a.middle && a.middle <= a.high);
            held[k] += a.low <= truth && truth <= a.high;
            width[k] += (a.high - a.low) / a.middle / FARMS;
        }
    }
    for (int k = 0; k < 3; k++)
        if (held[k] < FARMS * 85 / 100)
            fail_msg("after %d concepts: %d of %d farms within the interval", at[k], held[k], FARMS);
    assert_true(width[1] < 0.7 * width[0]);
}

static void nothing_is_said_before_anything_is_known(void **unused)
{
    eta_work w = {.samples = 100, .longest = 10, .concepts = 10, .slots = 2};
    eta_answer a;
    eta t = {0};
    (void)unused;
    assert_false(eta_ask(&t, &w, &a));
    eta_learn(&t, 0, 10);
    eta_learn(&t, NAN, 10);
    assert_false(eta_ask(&t, &w, &a));
    eta_learn(&t, 1, 10);
    assert_true(eta_ask(&t, &w, &a));
    assert_true(a.middle >= 5 && a.middle < 7);
    w.slots = 0;
    assert_false(eta_ask(&t, &w, &a));
}

static void slurms_times_are_read(void **unused)
{
    static const struct { const char *text; double seconds; } row[] = {
        {"1-02:03:04", 93784}, {"02:03:04", 7384}, {"3:04", 184}, {"59", 59}, {"2-00:00:00", 172800}, {"0:00", 0},
        {"1-12", 129600},
    };
    double s;
    (void)unused;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        assert_int_equal(limit_parse(&s, row[i].text), 0);
        assert_true(s == row[i].seconds);
    }
    assert_int_not_equal(limit_parse(&s, "UNLIMITED"), 0);
    assert_true(s < 0);
}

/* Two slots, 100 s, a second a sample. */
static void what_fits_is_what_the_slots_have_time_for(void **unused)
{
    forecast_work w[] = {
        {.name = "long", .priority = 1, .samples = 90}, {.name = "short", .priority = 1, .samples = 20},
        {.name = "middle", .priority = 1, .samples = 50}, {.name = "last", .priority = 2, .samples = 1},
        {.name = "urgent", .priority = 0, .samples = 60},
    };
    static const struct { const char *name; bool fits; } want[] = { /* urgent 60; short 20, middle 70; long 150; last 71 */
        {"urgent", true}, {"short", true}, {"middle", true}, {"long", false}, {"last", true},
    };
    (void)unused;
    assert_int_equal(forecast(w, 5, 2, 100, 1), 4);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(w[i].name, want[i].name);
        assert_int_equal(w[i].fits, want[i].fits);
    }
    assert_int_equal(forecast(w, 5, 2, 0, 1), 0);
    assert_int_equal(forecast(w, 5, 2, 100, 0.1), 5);
    assert_int_equal(forecast(w, 0, 2, 100, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_interval_holds_the_truth_and_narrows),
        cmocka_unit_test(nothing_is_said_before_anything_is_known),
        cmocka_unit_test(slurms_times_are_read),
        cmocka_unit_test(what_fits_is_what_the_slots_have_time_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
