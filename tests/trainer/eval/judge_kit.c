/* See judge_kit.h; weights are those of fill() in eval_oracle.py. */
#include "tests/trainer/eval/judge_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/rng.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"

enum { LIST_MOST = 1 << 20, TENSORS_MOST = 1024 };

static float size_of(const st_tensor *t, bool *one)
{
    int dims = 0;

    for (int i = 0; i < t->n; i++)
        dims += t->d[i] != 1;
    *one = dims <= 1;
    return *one ? 0.1F : (float)((t->n == 4 ? 2.45 : 1.7) / sqrt((double)(t->count / (uint64_t)t->d[0])));
}

static void fill(st_tensor *t)
{
    bool one, var = str_ends(t->name, "running_var"), about_one;
    float by = size_of(t, &one), *data = NEW_N(float, t->count);
    rng_stream s = rng_open(7, t->name, 0, 0);

    about_one = one && ((strstr(t->name, "norm") && str_ends(t->name, "weight")) || strstr(t->name, ".bn.weight"));
    for (uint64_t i = 0; i < t->count; i++) {
        float v = rng_uniform(s, i) * 2 - 1;
        data[i] = var ? 1 + 0.5F * v : by * v + (float)about_one;
    }
    t->type = F32;
    t->data = data;
}

static void read_row(st_tensor *t, char *line)
{
    char *tab = strchr(line, '\t'), *at;

    assert_non_null(tab);
    *tab = '\0';
    *t = (st_tensor){.name = line, .count = 1};
    for (at = tab + 1; *at; at += *at == ',') {
        t->d[t->n] = strtoll(at, &at, 10);
        t->count *= (uint64_t)t->d[t->n++];
    }
}

static void write_weights(const char *to, const char *list)
{
    static const char *const NONE[] = {NULL};
    st_tensor *all = NEW_N(st_tensor, TENSORS_MOST);
    char path[FS_PATH], *text;
    size_t bytes, n = 0;
    err e = {0};

    assert_int_equal(fs_join(path, list, "weights.tsv", &e), 0);
    if (fs_read(path, &text, &bytes, LIST_MOST, &e) != 0)
        fail_msg("%s", e.text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(n < TENSORS_MOST);
        read_row(&all[n], line);
        fill(&all[n++]);
    }
    assert_int_equal(fs_join(path, to, "model.safetensors", &e), 0);
    if (st_write(path, all, n, NONE, NONE, &e) != 0)
        fail_msg("%s", e.text);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)all[i].data);
    free(all);
    free(text);
}

static void write_file(const char *to, const char *name, const char *text, size_t n)
{
    char path[FS_PATH];
    err e = {0};

    assert_int_equal(fs_join(path, to, name, &e), 0);
    assert_int_equal(fs_write(path, text, n, &e), 0);
}

static void write_words(const char *to)
{
    str vocab = {0};

    str_add(&vocab, "{");
    for (int i = 0; i < 51; i++)
        str_add(&vocab, "\"%c%s\": %d, ", 'a' + i % 26, i < 26 ? "" : "</w>", i);
    str_add(&vocab, "\"qu\": 51, \"<|startoftext|>\": 52, \"<|endoftext|>\": 53}");
    write_file(to, "vocab.json", vocab.at, vocab.n);
    write_file(to, "merges.txt", "#version: 0.2\nq u\n", 18);
    str_free(&vocab);
}

void judge_kit_make(const char *to, const char *list)
{
    char path[FS_PATH], *text;
    size_t n;
    err e = {0};

    assert_int_equal(fs_mkdirs(to, &e), 0);
    assert_int_equal(fs_join(path, list, "config.json", &e), 0);
    if (fs_exists(path)) {
        assert_int_equal(fs_read(path, &text, &n, LIST_MOST, &e), 0);
        write_file(to, "config.json", text, n);
        free(text);
    }
    write_words(to);
    write_weights(to, list);
}

image judge_kit_picture(int h, int w)
{
    image m = {h, w, NEW_N(uint8_t, h * w * 3)};
    uint8_t *to = m.rgb;

    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                *to++ = (uint8_t)((x * x / 97 + y * 3 * (c + 1) + x * y / 61) % 256);
    return m;
}
