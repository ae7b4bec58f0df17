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
#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "tests/data/data_kit.h"

static char folder[64];
static cfg_doc *doc;

int kit_open(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cf_data_XXXXXX");
    doc = cfg_doc_new();
    return mkdtemp(folder) ? 0 : -1;
}

int kit_close(void **state)
{
    (void)state;
    cfg_doc_free(doc);
    return fs_remove_tree(folder, NULL);
}

const char *kit_source(void)
{
    const char *root = getenv("CFARM_SOURCE");

    return root ? root : ".";
}

const char *kit_path(const char *name)
{
    static char path[8][FS_PATH];
    static int turn;
    char *at = path[turn++ % 8];

    snprintf(at, FS_PATH, "%s/%s", folder, name);
    return at;
}

static void make_room_for(const char *path)
{
    char dir[FS_PATH];

    assert_true(str_copy(dir, sizeof dir, path));
    *strrchr(dir, '/') = 0;
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
}

void kit_bytes(const char *name, const void *at, size_t n)
{
    make_room_for(kit_path(name));
    FILE *f = fopen(kit_path(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(at, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

void kit_text(const char *name, const char *text)
{
    kit_bytes(name, text, strlen(text));
}

void kit_picture(const char *name, int h, int w, unsigned seed)
{
    size_t n = (size_t)h * (size_t)w * 3;
    uint8_t *rgb = mem_new(n, 1);
    rng_stream r = rng_open(seed, "picture", 0, 0);
    err e = {0};

    for (size_t i = 0; i < n; i++)
        rgb[i] = (uint8_t)rng_u32(r, i);
    make_room_for(kit_path(name));
    if (image_write_png(kit_path(name), rgb, h, w, &e) != 0)
        fail_msg("%s", e.text);
    free(rgb);
}

void kit_pictures(const char *where, int n, int h, int w, unsigned seed)
{
    char name[256];

    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s/%d.png", where, i);
        kit_picture(name, h, w, seed * 1000 + (unsigned)i);
    }
}

int kit_cfg_try(const data_cfg **out, const char *yaml, err *e)
{
    data_cfg *c = cfg_room(doc, sizeof *c);
    cfg_section section = {"data", data_fields, c};
    const cfg_node *map;

    TRY(cfg_yaml_parse(&map, doc, yaml, strlen(yaml), "concept", e));
    TRY(cfg_fill(NULL, doc, &section, 1, map, e));
    c->root = cfg_text(doc, folder);
    *out = c;
    return 0;
}

const data_cfg *kit_cfg(const char *yaml)
{
    const data_cfg *c = NULL;
    err e = {0};

    if (kit_cfg_try(&c, yaml, &e) != 0)
        fail_msg("%s", e.text);
    return c;
}

/* ---- the vocabulary: printable ASCII is itself in CLIP's table of bytes ---- */

static void add_entry(str *vocab, int *id, const char *text, const char *tail)
{
    str_add(vocab, "%s\"%s%s%s\": %d", *id ? ", " : "{", strchr("\"\\", text[0]) ? "\\" : "", text, tail, *id);
    (*id)++;
}

tokenizer *kit_tokenizer(bool rare)
{
    static const char *const merged[] = {"do", "dog</w>", "ca", "cat</w>"};
    static const char *const rare_entries[] = {"kt", "ktn", "pl", "pll", "uc", "ucd</w>"};
    str vocab = {0}, merges = {0};
    int id = 0;
    tokenizer *t = NULL;
    err e = {0};

    for (int tail = 0; tail < 2; tail++)
        for (char c = '!'; c <= '~'; c++)
            add_entry(&vocab, &id, (char[]){c, 0}, tail ? "</w>" : "");
    for (size_t i = 0; i < sizeof merged / sizeof *merged; i++)
        add_entry(&vocab, &id, merged[i], "");
    for (size_t i = 0; rare && i < sizeof rare_entries / sizeof *rare_entries; i++)
        add_entry(&vocab, &id, rare_entries[i], "");
    add_entry(&vocab, &id, "<|startoftext|>", "");
    add_entry(&vocab, &id, "<|endoftext|>", "");
    str_add(&vocab, "}");
    kit_text("tokenizer/vocab.json", vocab.at);
    str_free(&vocab);
    str_add(&merges, "#version: 0.2\nd o\ndo g</w>\nc a\nca t</w>\n%s", rare ? "k t\nkt n\np l\npl l\nu c\nuc d</w>\n" : "");
    kit_text("tokenizer/merges.txt", merges.at);
    str_free(&merges);
    if (tokenizer_open(&t, kit_path("tokenizer"), &e) != 0)
        fail_msg("%s", e.text);
    return t;
}
