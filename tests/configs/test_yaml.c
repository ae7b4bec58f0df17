/* YAML into a tree: what is read, where it stood, and what is refused with its place. */
#include "tests/cluster/scratch.h"

#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"

static const cfg_node *parse(cfg_doc *d, const char *text)
{
    const cfg_node *n;
    err e = {0};
    if (cfg_yaml_parse(&n, d, text, strlen(text), "x.yaml", &e) != 0)
        fail_msg("%s", e.text);
    return n;
}

static void assert_reads_as(const char *yaml, const char *json)
{
    cfg_doc *d = cfg_doc_new();
    char *got = cfg_json(parse(d, yaml));
    assert_string_equal(got, json);
    free(got);
    cfg_doc_free(d);
}

static void yaml_and_json_give_one_tree(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"b: 2\na: 1\n", "{\"a\":1,\"b\":2}"},
        {"{\"b\":2,\"a\":[1,{\"c\":null}]}", "{\"a\":[1,{}],\"b\":2}"},
        {"a: [x, 'y', \"z\", 1.50, -0, 1e5, .5, 0x10, +1, 007, 1., yes, true, True]", "{\"a\":[\"x\",\"y\",\"z\",1.50,-"
                                                                                      "0,1e5,\".5\",\"0x10\",\"+1\","
                                                                                      "\"007\",\"1.\",\"yes\",true,"
                                                                                      "\"True\"]}"},
        {"a: '1'\nb: \"true\"\n", "{\"a\":\"1\",\"b\":\"true\"}"},
        {"a: null\nb: ~\nc:\nd: 'null'\ne: ''\n", "{\"d\":\"null\",\"e\":\"\"}"},
        {"[null, ~]", "[null,null]"},
        {"a: |\n  one\n  two\n", "{\"a\":\"one\\u000atwo\\u000a\"}"},
        {"a: \"\\\"\\\\\\t\\u00e9\"", "{\"a\":\"\\\"\\\\\\u0009\xc3\xa9\"}"},
        {"a: <rex>\nb: photo of a {}\n", "{\"a\":\"<rex>\",\"b\":\"photo of a {}\"}"},
        {"a: &x {k: 1}\nb: *x\n", "{\"a\":{\"k\":1},\"b\":{\"k\":1}}"},
        {"a: &x 1\nb: [*x, &x 2, *x]\n", "{\"a\":1,\"b\":[1,2,2]}"},
        {"\xef\xbb\xbf{a: 1}", "{\"a\":1}"},
        {"{}", "{}"},
        {"just a text", "\"just a text\""},
        {"--- {a: 1}\n...\n", "{\"a\":1}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_reads_as(rows[i][0], rows[i][1]);
}

static void json_reads_back_as_itself(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "{\"a\":[1,2.50,\"x\",{\"b\":true}],\"c\":\"\\u000a\\u0001\\\"\\\\/\"}",
        "{\"k\":\"{}\",\"l\":\"<new1> : # not a comment\",\"\xc3\xa9\":[[],{}]}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_reads_as(rows[i], rows[i]);
}

static void every_node_knows_its_place(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    const cfg_node *n = parse(d, "# first\nab: 1\nlist:\n  - x\n  - {k\xc3\xa9: v}\n");
    char where[CFG_WHERE];
    assert_string_equal(cfg_where(where, n->at), "x.yaml:2:1");
    assert_string_equal(cfg_where(where, cfg_get(n, "ab")->at), "x.yaml:2:5");
    const cfg_node *list = cfg_get(n, "list");
    assert_int_equal(list->n, 2);
    assert_string_equal(cfg_where(where, list->entries[0].value->at), "x.yaml:4:5");
    const cfg_node *map = list->entries[1].value;
    assert_string_equal(cfg_where(where, map->entries[0].at), "x.yaml:5:6");
    assert_string_equal(cfg_where(where, map->entries[0].value->at), "x.yaml:5:10"); /* characters, not bytes */
    assert_null(cfg_get(n, "none"));
    assert_null(cfg_get(list, "ab"));
    assert_null(cfg_get(NULL, "ab"));
    assert_string_equal(cfg_where(where, (cfg_mark){.file = "--lr"}), "--lr");
    cfg_doc_free(d);
}

static void what_cannot_be_read_is_told_with_its_place(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", "x.yaml: nothing in it"},
        {"# only this\n", "x.yaml: nothing in it"},
        {"a: 1\nb: 2\na: 3\n", "x.yaml:3:1: 'a' stands here a second time; first at 1:1"},
        {"{a: {b: 1, c: 2, b: 3}}", "x.yaml:1:18: 'b' stands here a second time; first at 1:6"},
        {"a: [1\nb: 2\n", "x.yaml:2:2: did not find expected ',' or ']' while parsing a flow sequence that began at "
                          "1:4"},
        {"a: b: c\n", "x.yaml:1:5: mapping values are not allowed in this context"},
        {"a: 1\n b: 2\n", "x.yaml:2:3: mapping values are not allowed in this context"},
        {"a: 'open\n", "x.yaml:2:1: found unexpected end of stream while scanning a quoted scalar that began at 1:4"},
        {"a:\n\t- 1\n", "x.yaml:2:1: found character that cannot start any token while scanning for the next token "
                        "that "
                        "began at 2:1"},
        {"a: @x\n", "x.yaml:1:4: found character that cannot start any token while scanning for the next token that "
                    "began at 1:4"},
        {"a: \x80\n", "x.yaml: byte 4: invalid leading UTF-8 octet; files are UTF-8"},
        {"a: \"\\0\"\n", "x.yaml:1:4: a text with a zero byte in it"},
        {"a: *none\n", "x.yaml:1:4: *none names nothing: no &none before it"},
        {"a: &x [1, *x]\n", "x.yaml:1:11: *x stands inside of what it names"},
        {"<<: {a: 1}\n", "x.yaml:1:1: merge keys (<<) are not read; a farm's defaults: do what they are for"},
        {"a: !!int 3\n", "x.yaml:1:4: tags (tag:yaml.org,2002:int) are not read"},
        {"a: !secret x\n", "x.yaml:1:4: tags (!secret) are not read"},
        {"[1, 2]: x\n", "x.yaml:1:1: a key must be a plain text"},
        {"? {a: b}\n: x\n", "x.yaml:1:3: a key must be a plain text"},
        {"'': x\n", "x.yaml:1:1: a value without a key"},
        {"a: 1\n---\nb: 2\n", "x.yaml:2:1: a second document; one file holds one"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cfg_doc *d = cfg_doc_new();
        const cfg_node *n;
        err e = {0};
        assert_int_equal(cfg_yaml_parse(&n, d, rows[i][0], strlen(rows[i][0]), "x.yaml", &e), ERR_INPUT);
        assert_string_equal(e.text, rows[i][1]);
        assert_null(n);
        cfg_doc_free(d);
    }
}

static void refused(const char *text, const char *said)
{
    cfg_doc *d = cfg_doc_new();
    const cfg_node *n;
    err e = {0};
    assert_int_equal(cfg_yaml_parse(&n, d, text, strlen(text), "x.yaml", &e), ERR_INPUT);
    assert_string_equal(e.text, said);
    cfg_doc_free(d);
}

static void a_billion_laughs_are_not_laughed(void **state)
{
    (void)state;
    str s = {0};
    str_add(&s, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 10; i++) {
        str_add(&s, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++)
            str_add(&s, "%s*a%d", k ? ", " : "", i - 1);
        str_add(&s, "]\n");
    }
    refused(s.at, "x.yaml:6:55: more than 1048576 values, aliases followed");
    str_free(&s);
}

static void depth_has_an_end_with_and_without_aliases(void **state)
{
    (void)state;
    str s = {0};
    for (int i = 0; i < CFG_DEEPEST; i++)
        str_add(&s, "[");
    for (int i = 0; i < CFG_DEEPEST; i++)
        str_add(&s, "]");
    cfg_doc *d = cfg_doc_new();
    assert_int_equal(parse(d, s.at)->height, CFG_DEEPEST);
    cfg_doc_free(d);
    str_free(&s);
    for (int i = 0; i < 100000; i++)
        str_add(&s, "[");
    refused(s.at, "x.yaml:1:65: more than 64 levels");
    str_free(&s);
    str_add(&s, "a0: &a0 [x]\n");
    for (int i = 1; i < 100; i++)
        str_add(&s, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    refused(s.at, "x.yaml:63:16: more than 64 levels, aliases followed");
    str_free(&s);
}

static void keys_and_anchors_have_a_most(void **state)
{
    (void)state;
    str s = {0};
    for (int i = 0; i <= CFG_KEYS_MOST; i++)
        str_add(&s, "k%d: 1\n", i);
    refused(s.at, "x.yaml:4097:1: more than 4096 keys in one map");
    str_free(&s);
    for (int i = 0; i <= CFG_ANCHORS_MOST; i++)
        str_add(&s, "- &a%d x\n", i);
    refused(s.at, "x.yaml:1025:3: more than 1024 anchors");
    str_free(&s);
}

static void a_file_has_a_most(void **state)
{
    (void)state;
    size_t n = (size_t)CFG_FILE_MOST + 1;
    char *large = malloc(n);
    memset(large, ' ', n);
    err e = {0};
    cfg_doc *d = cfg_doc_new();
    const cfg_node *got;
    assert_int_equal(cfg_yaml_parse(&got, d, large, n, "x.yaml", &e), ERR_INPUT);
    assert_string_equal(e.text, "x.yaml: 16777217 bytes; at most 16777216 are read");
    assert_int_equal(fs_write(in_scratch("large.yaml"), large, n, NULL), 0);
    assert_int_equal(cfg_yaml_read(&got, d, in_scratch("large.yaml"), &e), ERR_INPUT);
    assert_said(e.text, "@/large.yaml: 16777217 bytes; at most 16777216 are read");
    assert_int_equal(cfg_yaml_read(&got, d, in_scratch("none.yaml"), &e), ERR_IO);
    assert_said(e.text, "@/none.yaml: cannot open: no such file or directory");
    cfg_doc_free(d);
    free(large);
}

static void joining_is_deep_and_null_takes_away(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"{a: 1, b: 2}", "{b: 3, c: 4}", "{\"a\":1,\"b\":3,\"c\":4}"},
        {"{r: {images: x, count: 2}}", "{r: {images: y}}", "{\"r\":{\"count\":2,\"images\":\"y\"}}"},
        {"{r: {images: x}}", "{r: null}", "{}"},
        {"{r: {images: x, count: 2}}", "{r: {images: null}}", "{\"r\":{\"count\":2}}"},
        {"{r: [1, 2]}", "{r: [3]}", "{\"r\":[3]}"},
        {"{r: 1}", "{r: {a: 1}}", "{\"r\":{\"a\":1}}"},
        {"{r: {a: 1}}", "{r: 1}", "{\"r\":1}"},
        {"{a: {b: {c: 1, d: 2}}}", "{a: {b: {c: 5}, e: 6}}", "{\"a\":{\"b\":{\"c\":5,\"d\":2},\"e\":6}}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cfg_doc *d = cfg_doc_new();
        const cfg_node *under = parse(d, rows[i][0]), *over = parse(d, rows[i][1]);
        char *before = cfg_json(under), *got = cfg_json(cfg_join(d, under, over)), *after = cfg_json(under);
        assert_string_equal(got, rows[i][2]);
        assert_string_equal(before, after);
        assert_ptr_equal(cfg_join(d, NULL, over), over);
        assert_ptr_equal(cfg_join(d, under, NULL), under);
        free(before);
        free(got);
        free(after);
        cfg_doc_free(d);
    }
}

static void a_path_reaches_into_maps(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    cfg_node *map = cfg_node_new(d, CFG_MAP, (cfg_mark){.file = "test"});
    const cfg_node *one = cfg_scalar(d, "1", true, map->at), *two = cfg_scalar(d, "2", true, map->at);
    cfg_put(d, map, "a.b.c", map->at, one);
    cfg_put(d, map, "a.b.d", map->at, two);
    cfg_put(d, map, "a.e", map->at, one);
    cfg_put(d, map, "a.b.c", map->at, two);
    cfg_set(d, map, "f.g", map->at, one);
    char *got = cfg_json(map);
    assert_string_equal(got, "{\"a\":{\"b\":{\"c\":2,\"d\":2},\"e\":1},\"f.g\":1}");
    free(got);
    cfg_doc_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yaml_and_json_give_one_tree),
        cmocka_unit_test(json_reads_back_as_itself),
        cmocka_unit_test(every_node_knows_its_place),
        cmocka_unit_test(what_cannot_be_read_is_told_with_its_place),
        cmocka_unit_test(a_billion_laughs_are_not_laughed),
        cmocka_unit_test(depth_has_an_end_with_and_without_aliases),
        cmocka_unit_test(keys_and_anchors_have_a_most),
        cmocka_unit_test(a_file_has_a_most),
        cmocka_unit_test(joining_is_deep_and_null_takes_away),
        cmocka_unit_test(a_path_reaches_into_maps),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
