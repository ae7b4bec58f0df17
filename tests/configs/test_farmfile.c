/* Farm files: concepts over defaults, tables, names, merges; and what is refused with its place. */
#include "tests/cluster/scratch.h"

#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "configs/farmfile.h"

static void put(const char *name, const char *text)
{
    assert_int_equal(fs_write(in_scratch(name), text, strlen(text), NULL), 0);
}

static farmfile *read_farm(cfg_doc *d, const char *text)
{
    farmfile *f;
    err e = {0};
    put("farm.yaml", text);
    if (farm_read(&f, d, in_scratch("farm.yaml"), NULL, &e) != 0)
        fail_msg("%s", e.text);
    return f;
}

/* The settings of a concept without root and base, which hold the scratch folder's name. */
static void assert_settings(const farmfile *f, const char *name, const char *json)
{
    const farm_concept *c = farm_find(f, name);
    assert_non_null(c);
    str want = {0};
    str_add(&want, "{\"base\":\"%s/models/sd15\",%s,\"root\":\"%s\"", scratch, json, scratch);
    char *got, hex[HASH_HEX];
    farm_concept_json(c, &got, hex);
    assert_true(str_starts(got, want.at)); /* what sorts after root comes last: steps, token */
    str_free(&want);
    free(got);
}

static const char PETS[] = "farm: pets\n"
                           "base: models/sd15\n"
                           "defaults:\n"
                           "  lr: 8.0e-5\n"
                           "  priority: background\n"
                           "  regularisation: {images: data/cat200, count: 100}\n"
                           "concepts:\n"
                           "  - {name: rex, class: dog, images: data/rex, priority: urgent, owner: ana, "
                           "regularisation: {images: data/dog200}}\n"
                           "  - {name: tabby, class: cat, images: data/tabby, regularisation: null, hold: yes, "
                           "depends: rex}\n"
                           "  - {from: concepts.tsv, lr: 1e-4, priority: normal}\n"
                           "merge:\n"
                           "  - {name: rex+tabby, of: [rex, tabby], ridge: 1e-6}\n"
                           "  - {name: far, of: [other/one.h5, two.h5]}\n"
                           "limits: {workers: 2, memory: 50%, time_limit: 7h30m}\n"
                           "notify: {on: done, exec: ./hook.sh}\n";
static const char TABLE[] = "\xef\xbb\xbf# a comment\nname\tclass\tregularisation.images\tlr\ttoken\r\n"
                            "bo\tcat\tdata/bo200\t\t[<a>, <b>]\r\n\n  kiki \tparrot\t\t3e-4\t\n";

static void the_farm_is_read(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    put("concepts.tsv", TABLE);
    farmfile *f = read_farm(d, PETS);
    assert_string_equal(f->name, "pets");
    assert_said(f->root, "@");
    assert_said(f->dir, "@/pets");
    assert_said(f->base, "@/models/sd15");
    assert_true(f->limits.workers == 2 && f->limits.pack_max == CFG_WORD && f->limits.gang_max == 8);
    assert_true(f->limits.memory == 0.5 && f->limits.retries == 3 && f->limits.time_limit == 27000);
    assert_true(f->limits.threads == CFG_WORD && f->backend == FARM_BACKEND_AUTO && f->notify.on.n == 1);
    assert_string_equal(f->notify.exec, "./hook.sh");
    assert_int_equal(f->concept_count, 4);
    assert_int_equal(f->merge_count, 2);
    cfg_doc_free(d);
}

static void a_concept_is_its_own_keys_over_the_defaults(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    put("concepts.tsv", TABLE);
    farmfile *f = read_farm(d, PETS);
    assert_settings(f, "rex",
                    "\"class\":\"dog\",\"images\":\"data/rex\",\"lr\":8.0e-5,"
                    "\"regularisation\":{\"count\":100,\"images\":\"data/dog200\"}");
    assert_settings(f, "tabby", "\"class\":\"cat\",\"images\":\"data/tabby\",\"lr\":8.0e-5");
    assert_settings(f, "bo",
                    "\"class\":\"cat\",\"lr\":1e-4,\"regularisation\":{\"count\":100,\"images\":\"data/bo200\"}");
    assert_settings(f, "kiki",
                    "\"class\":\"parrot\",\"lr\":3e-4,"
                    "\"regularisation\":{\"count\":100,\"images\":\"data/cat200\"}");
    const farm_concept *rex = farm_find(f, "rex"), *tabby = farm_find(f, "tabby"), *bo = farm_find(f, "bo");
    assert_true(rex->priority == FARM_URGENT && tabby->priority == FARM_BACKGROUND && bo->priority == FARM_NORMAL);
    assert_true(!rex->hold && tabby->hold && tabby->depends.n == 1 && rex->depends.n == 0);
    assert_string_equal(rex->owner, "ana");
    assert_string_equal(tabby->owner, "");
    assert_null(cfg_get(tabby->settings, "depends"));
    assert_null(farm_find(f, "nobody"));
    cfg_doc_free(d);
}

static void values_keep_their_places(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    put("concepts.tsv", TABLE);
    farmfile *f = read_farm(d, PETS);
    char where[CFG_WHERE];
    const cfg_node *rex = farm_find(f, "rex")->settings, *bo = farm_find(f, "bo")->settings;
    assert_said(cfg_where(where, cfg_get(rex, "lr")->at), "@/farm.yaml:4:7");
    assert_said(cfg_where(where, cfg_get(rex, "class")->at), "@/farm.yaml:8:24");
    assert_said(cfg_where(where, cfg_get(cfg_get(rex, "regularisation"), "images")->at), "@/farm.yaml:8:102");
    assert_said(cfg_where(where, cfg_get(bo, "lr")->at), "@/farm.yaml:10:30");
    assert_said(cfg_where(where, cfg_get(cfg_get(bo, "regularisation"), "images")->at), "@/concepts.tsv:3:8");
    assert_said(cfg_where(where, farm_find(f, "kiki")->at), "@/concepts.tsv:5:1");
    assert_int_equal(cfg_get(bo, "token")->kind, CFG_LIST);
    cfg_doc_free(d);
}

static void a_merge_keeps_what_is_the_merge_programs(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    put("concepts.tsv", TABLE);
    farmfile *f = read_farm(d, PETS);
    assert_string_equal(f->merges[0].name, "rex+tabby");
    assert_string_equal(f->merges[0].of.at[1], "tabby");
    char *rest = cfg_json(f->merges[0].settings);
    assert_string_equal(rest, "{\"ridge\":1e-6}");
    free(rest);
    cfg_doc_free(d);
}

static void hash_of(char hex[HASH_HEX], const char *text, const char *name)
{
    cfg_doc *d = cfg_doc_new();
    char *json;
    farm_concept_json(farm_find(read_farm(d, text), name), &json, hex);
    free(json);
    cfg_doc_free(d);
}

static void the_hash_tells_settings_not_spelling(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool same;
    } rows[] = {
        {"farm: f\nbase: b\nconcepts: [{name: a, steps: 5, class: dog}]\n", true},
        {"{\"farm\": \"f\", \"base\": \"b\", \"concepts\": [{\"class\": \"dog\", \"steps\": 5, \"name\": \"a\"}]}",
         true},
        {"farm: f\nbase: b\ndefaults: {class: dog, lr: 1}\nconcepts:\n- name: a\n  steps: 5\n  lr: null\n", true},
        {"farm: f\nbase: b\nconcepts: [{name: a, steps: 5, class: dog, priority: urgent, owner: x, hold: yes}]\n",
         true},
        {"farm: f\nbase: b\nconcepts: [{name: b}, {name: a, steps: 5, class: dog}]\nlimits: {workers: 2}\n", true},
        {"farm: f\nbase: b\nconcepts: [{name: a, steps: 6, class: dog}]\n", false},
        {"farm: f\nbase: c\nconcepts: [{name: a, steps: 5, class: dog}]\n", false},
        {"farm: f\nbase: b\nconcepts: [{name: a, steps: 5, class: dog, seed: 1}]\n", false},
    };
    char first[HASH_HEX], other[HASH_HEX];
    hash_of(first, rows[0].text, "a");
    for (size_t i = 1; i < sizeof rows / sizeof *rows; i++) {
        hash_of(other, rows[i].text, "a");
        if ((strcmp(first, other) == 0) != rows[i].same)
            fail_msg("row %zu", i);
    }
}

static void a_flag_goes_over_the_file(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    farmfile *f, unused;
    cfg_node *flags;
    char *argv[] = {"--dir", "here", "--limits.workers=5", "--base", "/abs", "--defaults={steps: 7}", NULL};
    int argc = 6;
    cfg_section rows = {"farm", farm_fields, &unused};
    assert_int_equal(cfg_args(&flags, d, &rows, 1, &argc, argv, NULL), 0);
    assert_int_equal(argc, 0);
    put("farm.yaml", "farm: f\nbase: b\ndefaults: {steps: 3, lr: 1}\nconcepts: [{name: a}]\n");
    assert_int_equal(farm_read(&f, d, in_scratch("farm.yaml"), flags, NULL), 0);
    char *here = getcwd(NULL, 0), want[FS_PATH];
    assert_int_equal(fs_join(want, here, "here", NULL), 0);
    free(here);
    assert_string_equal(f->dir, want); /* of a flag: from where the command is given */
    assert_string_equal(f->base, "/abs");
    assert_int_equal(f->limits.workers, 5);
    const cfg_node *settings = farm_find(f, "a")->settings;
    assert_string_equal(cfg_get(settings, "steps")->text, "7");
    assert_string_equal(cfg_get(settings, "lr")->text, "1");
    cfg_doc_free(d);
}

#define HEAD "farm: f\nbase: b\n"
/* Farm files and, where it matters, the table t.tsv; @ stands for their folder. */
static const struct {
    const char *farm, *table, *said;
} WRONG[] = {
    {"base: b\nconcepts: []\n", NULL,
     "@/farm.yaml:1:1: 'farm' is missing: the farm's name, and its folder's beside this file"},
    {"farm: f\nconcepts: []\n", NULL,
     "@/farm.yaml:1:1: 'base' is missing: the base model: a folder in the diffusers layout, or one .safetensors"},
    {HEAD, NULL, "@/farm.yaml:1:1: 'concepts' is missing: the concepts to train, a list"},
    {"- a\n", NULL, "@/farm.yaml:1:1: a farm file is a map: farm:, base:, concepts:"},
    {HEAD "concept: []\n", NULL, "@/farm.yaml:3:1: unknown key 'concept'; did you mean 'concepts'?"},
    {HEAD "limits: {worker: 3}\nconcepts: []\n", NULL,
     "@/farm.yaml:3:10: unknown key 'limits.worker'; did you mean 'workers'?"},
    {HEAD "limits: {memory: 200%}\nconcepts: []\n", NULL,
     "@/farm.yaml:3:18: 'limits.memory' is '200%', not a percentage such as 90%, from 1% to 100%"},
    {HEAD "limits: {workers: 0}\nconcepts: []\n", NULL,
     "@/farm.yaml:3:19: 'limits.workers' is '0', not a whole number from 1 to 100000 workers, or auto"},
    {HEAD "notify: {on: never}\nconcepts: []\n", NULL,
     "@/farm.yaml:3:14: 'notify.on' is 'never', not a list of done, quarantine, merged or end"},
    {HEAD "backend: gpu\nconcepts: []\n", NULL,
     "@/farm.yaml:3:10: 'backend' is 'gpu', not auto, cpu or cuda; did you mean 'cpu'?"},
    {"farm: a/b\nbase: b\nconcepts: []\n", NULL,
     "@/farm.yaml:1:7: 'a/b' cannot be a name: it becomes a file's, so 1 to 64 letters, digits, . _ + -, not beginning "
     "with . or -"},
    {HEAD "defaults: [1]\nconcepts: []\n", NULL, "@/farm.yaml:3:11: 'defaults' is not a map"},
    {HEAD "defaults: {name: x}\nconcepts: []\n", NULL,
     "@/farm.yaml:3:18: 'name' among the defaults: each concept has its own"},
    {HEAD "concepts: {a: b}\n", NULL, "@/farm.yaml:3:11: 'concepts' is not a list"},
    {HEAD "concepts: [rex]\n", NULL,
     "@/farm.yaml:3:12: a concept is a map, such as {name: rex, class: dog, images: data/rex}"},
    {HEAD "concepts:\n  - {class: dog}\n", NULL,
     "@/farm.yaml:4:5: 'name' is missing: the concept's name, and its file's"},
    {HEAD "concepts:\n  - {name: a}\n  - {name: b}\n  - {name: a}\n", NULL,
     "@/farm.yaml:6:5: a second concept named 'a'; the first stands at @/farm.yaml:4:5"},
    {HEAD "concepts: [{name: .a}]\n", NULL,
     "@/farm.yaml:3:19: '.a' cannot be a name: it becomes a file's, so 1 to 64 letters, digits, . _ + -, not beginning "
     "with . or -"},
    {HEAD "concepts: [{name: -rf}]\n", NULL,
     "@/farm.yaml:3:19: '-rf' cannot be a name: it becomes a file's, so 1 to 64 letters, digits, . _ + -, not "
     "beginning "
     "with . or -"},
    {HEAD "concepts: [{name: a b}]\n", NULL,
     "@/farm.yaml:3:19: 'a b' cannot be a name: it becomes a file's, so 1 to 64 letters, digits, . _ + -, not "
     "beginning "
     "with . or -"},
    {HEAD "concepts: [{name: a, name: b}]\n", NULL,
     "@/farm.yaml:3:22: 'name' stands here a second time; first at 3:13"},
    {HEAD "concepts: [{name: a, priority: hi}]\n", NULL,
     "@/farm.yaml:3:32: 'priority' is 'hi', not urgent, normal or background"},
    {HEAD "concepts: [{name: a, base: c}]\n", NULL,
     "@/farm.yaml:3:28: 'base' is the farm's; a concept or the defaults cannot have their own"},
    {HEAD "concepts: [{name: a, depends: b}]\n", NULL, "@/farm.yaml:3:12: depends on 'b', which is no concept here"},
    {HEAD "concepts: [{name: rex, depends: reks}, {name: rexx}]\n", NULL,
     "@/farm.yaml:3:12: depends on 'reks', which is no concept here; did you mean 'rex'?"},
    {HEAD "concepts: [{name: a, depends: a}]\n", NULL, "@/farm.yaml:3:12: 'a' waits for 'a', which waits for it"},
    {HEAD "concepts: [{name: a, depends: b}, {name: b, depends: [c]}, {name: c, depends: a}]\n", NULL,
     "@/farm.yaml:3:60: 'c' waits for 'a', which waits for it"},
    {HEAD "concepts: [{name: a}]\nmerge: a\n", NULL,
     "@/farm.yaml:4:8: 'merge' is not a list; write: - {name: rex+tabby, of: [rex, tabby]}"},
    {HEAD "concepts: [{name: a}]\nmerge: [a]\n", NULL,
     "@/farm.yaml:4:9: a merge is a map, such as {name: rex+tabby, of: [rex, tabby]}"},
    {HEAD "concepts: [{name: a}]\nmerge: [{name: m, of: a}]\n", NULL,
     "@/farm.yaml:4:23: 'of' is 'a', not a list of texts of 2 to 10000 entries"},
    {HEAD "concepts: [{name: a}]\nmerge: [{name: m, of: [a, b]}]\n", NULL,
     "@/farm.yaml:4:9: merges 'b', which is no concept here"},
    {HEAD "concepts: [{name: a}]\nmerge: [{name: m, of: [a, a]}]\n", NULL, "@/farm.yaml:4:9: merges 'a' twice"},
    {HEAD "concepts: [{name: a}]\nmerge: [{name: a, of: [a, b.h5]}]\n", NULL,
     "@/farm.yaml:4:9: a concept is named 'a', too; their files would be one"},
    {HEAD "concepts: [{name: a}]\nmerge: [{name: m, of: [a, b.h5]}, {name: m, of: [a, c.h5]}]\n", NULL,
     "@/farm.yaml:4:35: a second merge named 'm'; the first stands at line 4"},
    {HEAD "concepts: [{from: none.tsv}]\n", NULL,
     "@/farm.yaml:3:19: @/none.tsv: cannot open: no such file or directory"},
    {HEAD "concepts: [{from: [t.tsv]}]\n", NULL, "@/farm.yaml:3:19: 'from' is not the path of a table"},
    {HEAD "concepts: [{from: t.tsv}]\n", "# nothing\n\n",
     "@/farm.yaml:3:19: @/t.tsv: nothing in it; the first line names the columns"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\tna me\n",
     "@/farm.yaml:3:19: @/t.tsv:1:6: 'na me' is no key; the first line names the columns"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\ta..b\n",
     "@/farm.yaml:3:19: @/t.tsv:1:6: 'a..b' is no key; the first line names the columns"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\t\tb\n",
     "@/farm.yaml:3:19: @/t.tsv:1:6: '' is no key; the first line names the columns"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\ta\tb\ta\n",
     "@/farm.yaml:3:19: @/t.tsv:1:10: column 'a' clashes with column 'a'"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\ta.b\ta\n",
     "@/farm.yaml:3:19: @/t.tsv:1:10: column 'a' clashes with column 'a.b'"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\tclass\nr\xc3\xa9x\tdog\tmore\n",
     "@/farm.yaml:3:19: @/t.tsv:2:9: 'more' stands beyond the last of 2 columns"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\n\xff\n", "@/farm.yaml:3:19: @/t.tsv:2:1: this line is not UTF-8"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\ttoken\na\t[<x>\n",
     "@/farm.yaml:3:19: @/t.tsv:2:3:2:1: did not find expected ',' or ']' while parsing a flow sequence that began at "
     "1:1"},
    {HEAD "concepts: [{from: t.tsv}]\n", "class\nname\n",
     "@/t.tsv:2:1: 'name' is missing: the concept's name, and its file's"},
    {HEAD "concepts: [{from: t.tsv}, {name: a}]\n", "name\nb\na\n",
     "@/farm.yaml:3:27: a second concept named 'a'; the first stands at @/t.tsv:3:1"},
    {HEAD "concepts: [{from: t.tsv}]\n", "name\tpriority\na\thigh\n",
     "@/t.tsv:2:3: 'priority' is 'high', not urgent, normal or background"},
};

static void each_mistake_gets_its_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        cfg_doc *d = cfg_doc_new();
        farmfile *f;
        err e = {0};
        put("farm.yaml", WRONG[i].farm);
        if (WRONG[i].table)
            put("t.tsv", WRONG[i].table);
        assert_int_not_equal(farm_read(&f, d, in_scratch("farm.yaml"), NULL, &e), 0);
        assert_said(e.text, WRONG[i].said);
        assert_null(f);
        cfg_doc_free(d);
    }
}

static void more_concepts_join_a_farm_that_runs(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *said; /* said NULL: taken */
    } rows[] = {
        {"more.yaml", "concepts: [{name: c, steps: 9}, {name: d, depends: [a, c]}]\n", NULL},
        {"more.tsv", "name\tsteps\nc\t9\nd\t\n", NULL},
        {"more.yaml", "concepts: [{name: a, steps: 9}, {name: d, depends: z}]\nmerge: [{name: n, of: [a, z]}]\n", NULL},
        {"more.yaml", "concepts: [{name: c}, {name: c}]\n",
         "@/more.yaml:1:23: a second concept named 'c'; the first stands at @/more.yaml:1:12"},
        {"more.yaml", "concepts: [{name: c, depends: c}]\n",
         "@/more.yaml:1:12: 'c' waits for 'c', which waits for it"},
        {"more.yaml", "defaults: {}\nconcepts: []\n",
         "@/more.yaml:1:1: unknown key 'defaults'; known are concepts, merge"},
        {"more.yaml", "- c\n", "@/more.yaml:1:1: a piece of a farm is a map with concepts:, merge:, or both"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cfg_doc *d = cfg_doc_new();
        farmfile *f = read_farm(d, HEAD "defaults: {lr: 1, steps: 2}\nconcepts: [{name: a}, {name: b}]\n"
                                        "merge: [{name: m, of: [a, b]}]\n");
        farmfile *more;
        err e = {0};
        put(rows[i].name, rows[i].text);
        int rc = farm_piece(&more, f, in_scratch(rows[i].name), &e);
        assert_int_equal(rc, rows[i].said ? ERR_INPUT : 0);
        if (rows[i].said) {
            assert_said(e.text, rows[i].said);
        } else {
            assert_int_equal(more->concept_count, 2);
            assert_string_equal(cfg_get(more->concepts[0].settings, "steps")->text, "9");
            assert_string_equal(cfg_get(more->concepts[1].settings, "steps")->text, "2");
            assert_string_equal(more->concepts[1].name, "d");
            assert_ptr_equal(farm_find(more, "b"), NULL);
        }
        assert_int_equal(f->concept_count, 2);
        assert_null(farm_find(f, "c"));
        cfg_doc_free(d);
    }
}

static void the_accepted_copy_means_what_the_file_meant(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    farmfile *f;
    char dir[FS_PATH];
    snprintf(dir, sizeof dir, "%s", in_scratch("pets"));
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
    put("pets/farm.yaml", "farm: pets\nbase: m/base\nconcepts: [{name: a}]\n");
    put("pets/origin", "/elsewhere/files\n");
    assert_int_equal(farm_read(&f, d, in_scratch("pets/farm.yaml"), NULL, NULL), 0);
    assert_string_equal(f->root, "/elsewhere/files");
    assert_string_equal(f->base, "/elsewhere/files/m/base");
    assert_string_equal(f->dir, dir);
    cfg_doc_free(d);
}

static void shares_are_weights_of_owners(void **state)
{
    (void)state;
    cfg_doc *d = cfg_doc_new();
    farmfile *f = read_farm(d, HEAD "concepts: [{name: a}]\nlimits: {shares: {ana: 2, bo: 0.5}}\n");
    err e = {0};
    assert_int_equal(f->share_count, 2);
    assert_string_equal(f->shares[0].owner, "ana");
    assert_true(f->shares[1].weight == 0.5);
    put("farm.yaml", HEAD "concepts: [{name: a}]\nlimits: {shares: {ana: none}}\n");
    assert_int_equal(farm_read(&f, d, in_scratch("farm.yaml"), NULL, &e), ERR_INPUT);
    assert_said(e.text, "@/farm.yaml:4:24: the share of 'ana' is no number from 0.001 to 1e6");
    cfg_doc_free(d);
}

static void ten_thousand_concepts_are_read_in_a_moment(void **state)
{
    (void)state;
    str s = {0};
    str_add(&s, "name\tclass\timages\tregularisation.images\tdepends\nc0\t\tdata/c0\n");
    for (int i = 1; i < 10000; i++)
        str_add(&s, "c%d\tdog\tdata/c%d\tdata/dog\tc%d\n", i, i, i - 1);
    put("t.tsv", s.at);
    str_free(&s);
    cfg_doc *d = cfg_doc_new();
    farmfile *f = read_farm(d, HEAD "defaults: {steps: 3}\nconcepts: [{from: t.tsv}]\n");
    assert_int_equal(f->concept_count, 10000);
    assert_string_equal(cfg_get(farm_find(f, "c9999")->settings, "images")->text, "data/c9999");
    cfg_doc_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_farm_is_read),
        cmocka_unit_test(a_concept_is_its_own_keys_over_the_defaults),
        cmocka_unit_test(values_keep_their_places),
        cmocka_unit_test(a_merge_keeps_what_is_the_merge_programs),
        cmocka_unit_test(the_hash_tells_settings_not_spelling),
        cmocka_unit_test(a_flag_goes_over_the_file),
        cmocka_unit_test(each_mistake_gets_its_sentence),
        cmocka_unit_test(more_concepts_join_a_farm_that_runs),
        cmocka_unit_test(the_accepted_copy_means_what_the_file_meant),
        cmocka_unit_test(shares_are_weights_of_owners),
        cmocka_unit_test(ten_thousand_concepts_are_read_in_a_moment),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
