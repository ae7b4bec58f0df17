/* Concept files: what goes in comes out, part by part, and what makes no sense is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "data/concept.h"
#include "data/store.h"

#define K    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
#define V    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight"
#define BIAS "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0.bias"
#define CONV "conv_in.weight"

enum { WIDTH = 6, ROWS = 4 };
static char dir[] = "/tmp/cf-concept-XXXXXX";
static char path[64];

static float *numbers(size_t n, uint32_t which)
{
    float *x = NEW_N(float, n);
    rng_normal_fill(rng_open(5, "numbers", which, 0), x, n);
    return x;
}

static void add_tensor(concept *c, const char *name, int64_t rows, int64_t cols)
{
    float *x = numbers((size_t)(rows * (cols ? cols : 1)), (uint32_t)c->n_tensors);
    concept_add_tensor(c, name, rows, cols, x);
    free(x);
}

static void add_token(concept *c, const char *word, const char *class_word)
{
    float *x = numbers(WIDTH, 100 + (uint32_t)c->n_tokens);
    concept_add_token(c, word, class_word, 42170, x);
    free(x);
}

static concept_matrix *two_matrices(void)
{
    concept_matrix *m = NEW_N(concept_matrix, 2);
    m[0] = (concept_matrix){mem_text(K), ROWS};
    m[1] = (concept_matrix){mem_text(V), ROWS};
    return m;
}

static void add_card(concept *c)
{
    c->card = (concept_card){.n = 2,
                             .width = WIDTH,
                             .matrices = 2,
                             .outs = 2 * ROWS,
                             .row = NEW_N(concept_row, 2),
                             .matrix = two_matrices(),
                             .bos = numbers(WIDTH, 200),
                             .k = numbers(2 * WIDTH, 201),
                             .image = numbers(4 * ROWS, 202)};
    c->card.row[0] = (concept_row){mem_text("\"<new1> cat\" at <new1>"), mem_text("49406 <new1>"), 1.5};
    c->card.row[1] = (concept_row){mem_text("\"<new1> cat\" at its end"), mem_text("49406 <new1> 2368"), 2.5};
}

static void add_factors(concept *c)
{
    c->factors = (concept_factors){.rank = 1,
                                   .width = WIDTH,
                                   .matrices = 2,
                                   .outs = 2 * ROWS,
                                   .matrix = two_matrices(),
                                   .label = NEW_N(char *, 1),
                                   .left = numbers(2 * ROWS, 300),
                                   .right = NEW_N(double, WIDTH)};
    c->factors.label[0] = mem_text("one");
    for (int i = 0; i < WIDTH; i++)
        c->factors.right[i] = 0.1 * (i + 1);
    c->n_sources = 1;
    c->sources = NEW_N(concept_source, 1);
    c->sources[0] = (concept_source){mem_text("a.h5"), mem_text("00"), mem_text("<new1>"), 1};
    c->certificate = mem_text("{\"verdict\":\"clean\"}");
}

static concept full(void)
{
    concept c = {.kind = CONCEPT_SINGLE,
                 .method = mem_text("custom-diffusion"),
                 .base = mem_text("abc"),
                 .seed = 7,
                 .width = WIDTH,
                 .recipe = mem_text("{}"),
                 .settings = mem_text("steps: 250\n")};
    add_tensor(&c, K, ROWS, WIDTH);
    add_tensor(&c, V, ROWS, WIDTH);
    add_tensor(&c, BIAS, ROWS, 0);
    add_tensor(&c, CONV, ROWS, 36);
    add_token(&c, "<new2>", "wooden pot"); /* not in the order of their names */
    add_token(&c, "<new1>", "");
    add_card(&c);
    c.history = (concept_history){3, numbers(3, 400), numbers(3, 401), numbers(3, 402)};
    c.samples = NEW_N(concept_sample, 1);
    c.n_samples = 1;
    c.samples[0] = (concept_sample){mem_text("0.png"), mem_copy("PNG", 3), 3};
    return c;
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/c.h5", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return fs_remove_tree(dir, NULL);
}

static void what_was_written_is_read(void **state)
{
    concept a = full()
    , b;
    err e = {0};
    (void)state;
    assert_int_equal(concept_write(path, &a, &e), 0);
    assert_int_equal(concept_read(&b, path, CONCEPT_ALL, &e), 0);
    assert_int_equal(b.kind, CONCEPT_SINGLE);
    assert_string_equal(b.method, "custom-diffusion");
    assert_string_equal(b.settings, "steps: 250\n");
    assert_string_equal(b.created, ""); /* not given */
    assert_int_equal(b.seed, 7);
    assert_int_equal(b.n_tensors, 4);
    for (int i = 0; i < a.n_tensors; i++) {
        const concept_tensor *x = &a.tensors[i], *y = concept_find(&b, x->name);
        assert_non_null(y);
        assert_true(x->rows == y->rows && x->cols == y->cols);
        assert_memory_equal(x->data, y->data, (size_t)(x->rows * (x->cols ? x->cols : 1)) * sizeof(float));
    }
    assert_string_equal(b.tokens[0].word, "<new2>");
    assert_string_equal(b.tokens[0].class_word, "wooden pot");
    assert_int_equal(b.tokens[1].initial_id, 42170);
    assert_memory_equal(a.tokens[1].row, b.tokens[1].row, WIDTH * sizeof(float));
    assert_int_equal(b.card.n, 2);
    assert_string_equal(b.card.row[1].key, a.card.row[1].key);
    assert_memory_equal(a.card.image, b.card.image, 4 * ROWS * sizeof(float));
    assert_int_equal(b.history.n, 3);
    assert_memory_equal(b.samples[0].png, "PNG", 3);
    assert_int_equal(strlen(b.digest), 64);
    concept_free(&a);
    concept_free(&b);
}

static void only_the_parts_asked_for_are_read(void **state)
{
    concept a = full()
    , b;
    (void)state;
    assert_int_equal(concept_write(path, &a, NULL), 0);
    assert_int_equal(concept_read(&b, path, CONCEPT_CARD, NULL), 0);
    assert_int_equal(b.n_tensors, 0);
    assert_int_equal(b.history.n, 0);
    assert_int_equal(b.n_tokens, 2);
    assert_int_equal(b.card.n, 2);
    concept_free(&a);
    concept_free(&b);
}

static void a_merged_file_gives_weights_from_factors(void **state)
{
    concept a = full()
    , b;
    float w0[ROWS * WIDTH], w[ROWS * WIDTH];
    bool changed;
    err e = {0};
    (void)state;
    for (int i = 0; i < a.n_tensors; i++) {
        free(a.tensors[i].name);
        free(a.tensors[i].data);
    }
    a.n_tensors = 0;
    a.kind = CONCEPT_MERGED;
    add_factors(&a);
    assert_int_equal(concept_write(path, &a, &e), 0);
    assert_int_equal(concept_read(&b, path, CONCEPT_ALL, &e), 0);
    assert_string_equal(b.certificate, "{\"verdict\":\"clean\"}");
    assert_string_equal(b.sources[0].words, "<new1>");
    for (int i = 0; i < ROWS * WIDTH; i++)
        w0[i] = (float)i;
    assert_int_equal(concept_weight(&b, V, w0, ROWS, WIDTH, w, &changed, &e), 0);
    assert_true(changed);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        double want = w0[i] + (double)a.factors.left[ROWS + i / WIDTH] * a.factors.right[i % WIDTH];
        assert_true(w[i] == (float)want);
    }
    assert_int_equal(concept_weight(&b, "other.attn2.to_k.weight", w0, ROWS, WIDTH, w, &changed, &e), 0);
    assert_false(changed);
    assert_memory_equal(w, w0, sizeof w);
    assert_int_equal(concept_weight(&b, V, w0, ROWS, WIDTH - 1, w, &changed, &e), ERR_SHAPE);
    concept_free(&a);
    concept_free(&b);
}

static void a_fingerprint_knows_values_and_not_order(void **state)
{
    concept a = {.width = WIDTH}, b = {.width = WIDTH};
    char x[HASH_HEX], y[HASH_HEX];
    (void)state;
    add_tensor(&a, K, ROWS, WIDTH);
    add_tensor(&a, V, ROWS, WIDTH);
    concept_add_tensor(&b, CONV, 1, 1, NULL); /* passed over */
    concept_add_tensor(&b, V, ROWS, WIDTH, a.tensors[1].data);
    concept_add_tensor(&b, K, ROWS, WIDTH, a.tensors[0].data);
    concept_fingerprint(a.tensors, 2, x);
    concept_fingerprint(b.tensors, 3, y);
    assert_string_equal(x, y);
    b.tensors[2].data[5] += 1e-6F;
    concept_fingerprint(b.tensors, 3, y);
    assert_string_not_equal(x, y);
    concept_free(&a);
    concept_free(&b);
}

/* ---- files that make no sense though every checksum fits ---- */

typedef struct {
    const char *what, *says;
    int64_t version, width, at;
    const char *format;
    int64_t card_cols;
} odd_file;

static const odd_file odd_files[] = {
    {"another format", "not one of a concept", 1, WIDTH, 0, "something", WIDTH},
    {"a version of the future", "version 99", 99, WIDTH, 0, "conceptfarm", WIDTH},
    {"no width", "text width of 0", 1, 0, 0, "conceptfarm", WIDTH},
    {"a width beyond reason", "text width of", 1, 1LL << 40, 0, "conceptfarm", WIDTH},
    {"a token out of its place", "make no sense", 1, WIDTH, 3, "conceptfarm", WIDTH},
    {"a token of another width", "[7] is wanted", 1, 7, 0, "conceptfarm", WIDTH},
};

static int write_odd(const odd_file *o, err *e)
{
    static const char *const texts[] = {"method", "base", "base_path", "created", "recipe", "settings", NULL};
    float row[WIDTH] = {0};
    store *s;
    TRY(store_create(&s, path, e));
    assert_int_equal(store_attr_text(s, "/", "format", o->format, e), 0);
    assert_int_equal(store_attr_text(s, "/", "kind", "concept", e), 0);
    assert_int_equal(store_attr_int(s, "/", "version", o->version, e), 0);
    assert_int_equal(store_attr_int(s, "/", "seed", 1, e), 0);
    assert_int_equal(store_attr_int(s, "/", "width", o->width, e), 0);
    for (const char *const *t = texts; *t; t++)
        assert_int_equal(store_attr_text(s, "/", *t, "", e), 0);
    assert_int_equal(store_put(s, "/tokens/<new1>", (store_shape){F32, 1, {WIDTH}}, row, e), 0);
    assert_int_equal(store_attr_int(s, "/tokens/<new1>", "at", o->at, e), 0);
    assert_int_equal(store_attr_int(s, "/tokens/<new1>", "initial_id", -1, e), 0);
    assert_int_equal(store_attr_text(s, "/tokens/<new1>", "class", "cat", e), 0);
    return store_commit(s, e);
}

static void files_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof odd_files / sizeof *odd_files; i++) {
        concept c;
        err e = {0};
        assert_int_equal(write_odd(&odd_files[i], &e), 0);
        if (concept_read(&c, path, CONCEPT_ALL, &e) == 0 || !strstr(e.text, odd_files[i].says))
            fail_msg("%s: \"%s\"", odd_files[i].what, e.text);
        assert_ptr_equal(strstr(e.text, path), e.text); /* the file is named, once and first */
        assert_null(strstr(e.text + 1, path));
    }
}

static void names_that_cannot_stand_in_a_file_are_refused(void **state)
{
    static const char *const bad[] = {"", "a/b", "."};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        concept c = {.width = WIDTH};
        concept_add_tensor(&c, bad[i], 1, 1, NULL);
        assert_int_equal(concept_write(path, &c, NULL), ERR_INPUT);
        concept_free(&c);
        if (i < 2) {
            c.width = WIDTH;
            add_token(&c, bad[i], "");
            assert_int_equal(concept_write(path, &c, NULL), ERR_INPUT);
            concept_free(&c);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(only_the_parts_asked_for_are_read),
        cmocka_unit_test(a_merged_file_gives_weights_from_factors),
        cmocka_unit_test(a_fingerprint_knows_values_and_not_order),
        cmocka_unit_test(files_that_make_no_sense_are_refused),
        cmocka_unit_test(names_that_cannot_stand_in_a_file_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
