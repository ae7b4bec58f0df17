/* Merging again: a merged file with one concept more, one less, or another weight. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/again.h"
#include "tests/merge/compose_kit.h"

static double difference(const concept_factors *a, const concept_factors *b)
{
    double sum = 0;
    assert_int_equal(a->rank, b->rank);
    for (int i = 0; i < a->rank * D; i++)
        sum += (a->right[i] - b->right[i]) * (a->right[i] - b->right[i]);
    return sqrt(sum);
}

/* Merged, taken apart, one more in, one out: the file is that of a merge of the very files. */
static void adding_and_taking_out_is_merging_anew(void **state)
{
    char path[] = "/tmp/cf-again-XXXXXX";
    features f = make_base(200);
    concept in[4], parts[4], two, three, anew, read;
    certificate told;
    err e = {0};
    int fd = mkstemp(path);
    (void)state;
    close(fd);
    for (uint32_t i = 0; i < 4; i++)
        in[i] = make_concept(&f, i, i == 0 ? "<a>" : i == 1 ? "<b>" : i == 2 ? "<c>" : "<d>", 0.01F);
    assert_int_equal(compose(&two, &told, in, files, 2, &f, &(compose_opts){0}, &e), 0);
    certificate_free(&told);
    assert_int_equal(concept_write(path, &two, &e), 0);
    assert_int_equal(concept_read(&read, path, CONCEPT_FACTORS, &e), 0);
    assert_int_equal(again_open(parts, &read, &e), 0);
    assert_false(again_is_shared(&read));
    assert_string_equal(parts[1].tokens[0].word, "<b>");
    assert_null(parts[1].card.image);
    for (int i = 0; i < 2; i++)
        again_images(&parts[i], &read, i);
    assert_memory_equal(parts[1].card.image, in[1].card.image, sizeof(float) * ROWS * MATRICES * OUT);
    parts[2] = in[2];
    assert_int_equal(compose(&three, &told, parts, files, 3, &f, &(compose_opts){0}, &e), 0);
    certificate_free(&told);
    assert_int_equal(compose(&anew, &told, in, files, 3, &f, &(compose_opts){0}, &e), 0);
    certificate_free(&told);
    assert_true(difference(&three.factors, &anew.factors) == 0);
    concept_free(&three);
    concept_free(&anew);

    concept last[2] = {parts[1], in[2]}, same[2] = {in[1], in[2]};
    assert_int_equal(compose(&three, &told, last, files, 2, &f, &(compose_opts){0}, &e), 0);
    certificate_free(&told);
    assert_int_equal(compose(&anew, &told, same, files, 2, &f, &(compose_opts){0}, &e), 0);
    certificate_free(&told);
    assert_true(difference(&three.factors, &anew.factors) == 0);
    concept_free(&three);
    concept_free(&anew);
    concept_free(&two);
    concept_free(&read);
    free_all(parts, 2);
    free_all(in, 4);
    unlink(path);
    features_free(&f);
}

/* A merged file of five concepts on its way through compose_again; expected is a merge anew of the very files. */
typedef struct {
    const char *what;
    int n, is[MOST];       /* which concepts the result has, in order */
    double weight[MOST];   /* 0: 1 */
    bool free;             /* the first token */
} change;
enum { MERGED_ALREADY = 5 };
static const double kept_weight[MERGED_ALREADY] = {1, 0.5, 1, 1, 1};
static const change changes[] = {
    {"nothing", 5, {0, 1, 2, 3, 4}, {1, 0.5}, false},
    {"one more", 6, {0, 1, 2, 3, 4, 5}, {1, 0.5}, false},
    {"one more, in front", 6, {5, 0, 1, 2, 3, 4}, {1, 1, 0.5}, false},
    {"one less", 4, {0, 1, 3, 4}, {1, 0.5}, false},
    {"the weighed one less", 4, {0, 2, 3, 4}, {0}, false},
    {"one weighed", 5, {0, 1, 2, 3, 4}, {1, 0.5, 2}, false},
    {"one whole again", 5, {0, 1, 2, 3, 4}, {0}, false},
    {"one more, one less", 5, {0, 2, 3, 4, 5}, {0}, false},
    {"one more and weighed, first token free", 6, {0, 1, 2, 3, 4, 5}, {1, 0.5, 1, 1, 1, 0.25}, true},
    {"one less, first token free", 4, {0, 1, 2, 4}, {1, 0.5}, true},
};

static double relative(double a, double b)
{
    return fabs(a - b) / fmax(fabs(b), 1e-300);
}

static void compare_certificates(const char *what, const certificate *a, const certificate *b)
{
    if (a->used != b->used || relative(a->drift, b->drift) > 1e-6 || relative(a->drift_held, b->drift_held) > 1e-6 ||
        relative(a->drift_worst, b->drift_worst) > 1e-6 || strcmp(a->worst, b->worst) != 0 || a->miss > 1e-12 || a->kkt > 1e-12)
        fail_msg("%s: used %d, drift %.12g %.12g %.12g, miss %.2g, kkt %.2g", what, a->used, a->drift, a->drift_held,
                 a->drift_worst, a->miss, a->kkt);
    for (int i = 0; i < b->n; i++)
        if (strcmp(a->concept[i].words, b->concept[i].words) != 0 || a->concept[i].rows != b->concept[i].rows ||
            relative(a->concept[i].before, b->concept[i].before) > 1e-6 || a->concept[i].after > 1e-12)
            fail_msg("%s: concept %d", what, i);
}

static void change_as_anew(const change *c, const concept in[], const concept *merged, const concept parts[], const features *f)
{
    concept now[MOST], very[MOST], again, anew;
    certificate told, told_anew;
    double weight[MOST];
    int source[MOST];
    const char *why = "";
    err e = {0};
    for (int i = 0; i < c->n; i++) {
        int is = c->is[i];
        source[i] = is < MERGED_ALREADY ? is : -1;
        now[i] = is < MERGED_ALREADY ? parts[is] : in[is];
        very[i] = in[is];
        weight[i] = c->weight[i] > 0 ? c->weight[i] : 1;
    }
    compose_opts o = {.weight = weight, .bos_free = c->free};
    if (compose_again(&again, &told, &why, &(compose_start){merged, source}, now, files, c->n, f, &o, &e) != 0 || why)
        fail_msg("%s: %s%s", c->what, e.text, why ? why : "");
    assert_int_equal(compose(&anew, &told_anew, very, files, c->n, f, &o, &e), 0);
    if (difference(&again.factors, &anew.factors) > 1e-10)
        fail_msg("%s: right factors differ by %.2g", c->what, difference(&again.factors, &anew.factors));
    again_whole(&again, merged, source);
    assert_memory_equal(again.factors.left, anew.factors.left, sizeof(float) * (size_t)(MATRICES * OUT * anew.factors.rank));
    assert_memory_equal(again.factors.k, anew.factors.k, sizeof(float) * (size_t)(D * anew.factors.rank));
    for (int m = 0; m <= MATRICES; m++)
        assert_true(relative(again.factors.moved[m], anew.factors.moved[m]) < 1e-6);
    for (int i = 0; i < c->n; i++)
        assert_true(again.sources[i].weight == anew.sources[i].weight);
    compare_certificates(c->what, &told, &told_anew);
    certificate_free(&told);
    certificate_free(&told_anew);
    concept_free(&again);
    concept_free(&anew);
}

static features base_with_held(void)
{
    features f = make_base(200);
    float *rows = normals("held", 0, 50 * D, 1);
    assert_int_equal(lsq_factor_new(&f.held, D, NULL), 0);
    assert_int_equal(lsq_factor_add(&f.held, rows, 50, NULL), 0);
    free(rows);
    f.n_held = 50;
    for (int i = 0; i < MATRICES; i++)
        f.held_norm[i] = sqrt(50.0 * OUT);
    return f;
}

static void a_small_change_of_a_merged_file_is_a_merge_anew(void **state)
{
    char path[] = "/tmp/cf-change-XXXXXX", words[MOST][8];
    features f = base_with_held();
    concept in[MERGED_ALREADY + 1];
    err e = {0};
    (void)state;
    close(mkstemp(path));
    for (uint32_t i = 0; i <= MERGED_ALREADY; i++) {
        snprintf(words[i], sizeof words[i], "<w%u>", i);
        in[i] = make_concept(&f, i, words[i], 0.01F);
    }
    for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
        concept merged, read, parts[MERGED_ALREADY];
        certificate told;
        compose_opts o = {.weight = kept_weight, .bos_free = changes[k].free};
        assert_int_equal(compose(&merged, &told, in, files, MERGED_ALREADY, &f, &o, &e), 0);
        assert_int_equal(concept_write(path, &merged, &e), 0);
        assert_int_equal(concept_read(&read, path, CONCEPT_FACTORS, &e), 0);
        assert_int_equal(again_open(parts, &read, &e), 0);
        change_as_anew(&changes[k], in, &read, parts, &f);
        free_all(parts, MERGED_ALREADY);
        certificate_free(&told);
        concept_free(&merged);
        concept_free(&read);
    }
    unlink(path);
    free_all(in, MERGED_ALREADY + 1);
    features_free(&f);
}

/* Each concept in its turn goes and comes back: a hundred changes later the file is still what a merge anew is. */
static void many_changes_behind_each_other_lose_nothing(void **state)
{
    static const int source[] = {1, 2, 3, 4, -1};
    features f = make_base(200);
    concept in[MERGED_ALREADY], now, anew;
    certificate told;
    err e = {0};
    (void)state;
    for (uint32_t i = 0; i < MERGED_ALREADY; i++) {
        char word[8];
        snprintf(word, sizeof word, "<w%u>", i);
        in[i] = make_concept(&f, i, word, 0.01F);
    }
    assert_int_equal(compose(&now, &told, in, files, MERGED_ALREADY, &f, &(compose_opts){0}, &e), 0);
    certificate_free(&told);
    for (int turn = 0; turn < 100; turn++) {
        concept parts[MERGED_ALREADY], next[MERGED_ALREADY], out;
        const char *why = NULL;
        assert_int_equal(again_open(parts, &now, &e), 0);
        for (int i = 0; i < MERGED_ALREADY; i++)
            next[i] = i < MERGED_ALREADY - 1 ? parts[i + 1] : in[turn % MERGED_ALREADY];
        assert_int_equal(compose_again(&out, &told, &why, &(compose_start){&now, source}, next, files, MERGED_ALREADY, &f,
                                       &(compose_opts){0}, &e), 0);
        assert_null(why);
        certificate_free(&told);
        free_all(parts, MERGED_ALREADY);
        concept_free(&now);
        now = out;
    }
    assert_int_equal(compose(&anew, &told, in, files, MERGED_ALREADY, &f, &(compose_opts){0}, &e), 0);
    assert_true(difference(&now.factors, &anew.factors) < 1e-10);
    for (int m = 0; m < MATRICES; m++)
        assert_true(relative(now.factors.moved[m], anew.factors.moved[m]) < 1e-6);
    certificate_free(&told);
    concept_free(&now);
    concept_free(&anew);
    free_all(in, MERGED_ALREADY);
    features_free(&f);
}

/* Whatever is no small change of an exact merge is left to a solve anew, with the reason. */
static void what_is_no_small_change_is_said_and_left_to_a_solve(void **state)
{
    static const struct {
        const char *says;
        bool relax, bos_free, captions, no_moved, near;
        int n;
    } cases[] = {
        {.says = "a ridge", .relax = true, .n = 4},       {.says = "first token", .bos_free = true, .n = 4},
        {.says = "other captions", .captions = true, .n = 4}, {.says = "how far", .no_moved = true, .n = 4},
        {.says = "too little", .near = true, .n = 4},     {.says = "half of its rows", .n = 1},
    };
    features f = make_base(200);
    concept in[4];
    err e = {0};
    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        in[i] = make_concept(&f, i, i == 0 ? "<a>" : i == 1 ? "<b>" : i == 2 ? "<c>" : "<d>", 0.01F);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        int source[] = {0, 1, 2, -1};
        compose_opts o = {.relax = cases[k].relax, .bos_free = cases[k].bos_free, .drift_most = 0.1};
        concept merged, parts[4], out;
        certificate told;
        const char *why = NULL;
        assert_int_equal(compose(&merged, &told, in, files, 3, &f, &(compose_opts){0}, &e), 0);
        certificate_free(&told);
        assert_int_equal(again_open(parts, &merged, &e), 0);
        parts[3] = make_concept(&f, 3, "<d>", 0.01F);
        if (cases[k].near) /* a row of another concept, but for what lies below the digits of features */
            for (int i = 0; i < D; i++)
                parts[3].card.k[i] = in[0].card.k[i] * (1 + 1e-6F * (float)i);
        if (cases[k].no_moved) {
            free(merged.factors.moved);
            merged.factors.moved = NULL;
        }
        str_copy(f.captions, sizeof f.captions, cases[k].captions ? "others" : "captions");
        assert_int_equal(compose_again(&out, &told, &why, &(compose_start){&merged, source}, parts, files, cases[k].n, &f, &o, &e),
                         0);
        if (!why || !strstr(why, cases[k].says))
            fail_msg("%s: \"%s\"", cases[k].says, why ? why : "");
        assert_null(out.factors.right);
        str_copy(f.captions, sizeof f.captions, "captions");
        free_all(parts, 4);
        concept_free(&merged);
    }
    free_all(in, 4);
    features_free(&f);
}

/* With half its weight a concept says half of what it says; the others what they said; the weight stays with it. */
static void a_weight_is_how_much_of_a_concept_is_said(void **state)
{
    char path[] = "/tmp/cf-weight-XXXXXX";
    const double weight[] = {0.5, 1};
    features f = make_base(200);
    concept in[2], half, read, parts[2];
    certificate told;
    double out[MATRICES * OUT];
    err e = {0};
    int fd = mkstemp(path);
    (void)state;
    close(fd);
    for (uint32_t i = 0; i < 2; i++)
        in[i] = make_concept(&f, i, i ? "<b>" : "<a>", 0.01F);
    assert_int_equal(compose(&half, &told, in, files, 2, &f, &(compose_opts){.weight = weight}, &e), 0);
    say(out, &half, in[0].card.k);
    for (int o = 0; o < MATRICES * OUT; o++)
        assert_true(fabs(out[o] - 0.5 * (double)in[0].card.image[o]) < 1e-12);
    assert_true(distance_to(&half, &in[1], 0) < 1e-12);
    assert_true(told.concept[0].after < 1e-12);
    assert_int_equal(concept_write(path, &half, &e), 0);
    assert_int_equal(concept_read(&read, path, CONCEPT_FACTORS, &e), 0);
    assert_true(read.sources[0].weight == 0.5 && read.sources[1].weight == 1);
    assert_int_equal(again_open(parts, &read, &e), 0);
    again_images(&parts[0], &read, 0);
    assert_memory_equal(parts[0].card.image, in[0].card.image, sizeof(float) * ROWS * MATRICES * OUT); /* whole again */
    free_all(parts, 2);
    free_all(in, 2);
    certificate_free(&told);
    concept_free(&half);
    concept_free(&read);
    unlink(path);
    features_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adding_and_taking_out_is_merging_anew),
        cmocka_unit_test(a_small_change_of_a_merged_file_is_a_merge_anew),
        cmocka_unit_test(many_changes_behind_each_other_lose_nothing),
        cmocka_unit_test(what_is_no_small_change_is_said_and_left_to_a_solve),
        cmocka_unit_test(a_weight_is_how_much_of_a_concept_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
