/* The files of configs/ are true: each is read by the rows that training has, and farm.yaml shows every key. */
#include "tests/cluster/scratch.h"

#include "cluster/base/str.h"
#include "configs/cfg_yaml.h"
#include "configs/farmfile.h"
#include "trainer/train.h"

static const char *in_configs(const char *name)
{
    static char path[FS_PATH];
    const char *source = getenv("CFARM_SOURCE");
    assert_non_null(source);
    snprintf(path, sizeof path, "%s/configs/%s", source, name);
    return path;
}

static void read_example(const char *name)
{
    cfg_doc *d = cfg_doc_new();
    farmfile *f;
    err e = {0};
    if (farm_read(&f, d, in_configs(name), NULL, &e) != 0)
        fail_msg("%s", e.text);
    for (size_t c = 0; c < f->concept_count; c++) {
        concept_cfg of;
        if (concept_cfg_fill(&of, NULL, d, f->concepts[c].settings, &e) != 0)
            fail_msg("%s", e.text);
    }
    cfg_doc_free(d);
}

static void every_example_is_read_to_its_last_key(void **state)
{
    (void)state;
    char **names;
    size_t n, read = 0;
    assert_int_equal(fs_list(&names, &n, in_configs(""), NULL), 0);
    for (size_t i = 0; i < n; i++) {
        if (!str_ends(names[i], ".yaml"))
            continue;
        read_example(names[i]);
        read++;
    }
    fs_list_free(names);
    assert_true(read >= 2);
}

/* "key:" stands in the text, at the start of a line but for blanks, dashes, braces and the comment's mark. */
static bool shows(const char *text, const char *path)
{
    const char *dot = strrchr(path, '.'), *key = dot ? dot + 1 : path;
    size_t n = strlen(key);
    for (const char *at = strstr(text, key); at; at = strstr(at + 1, key)) {
        if (at > text && strchr(" {\n", at[-1]) && at[n] == ':')
            return true;
    }
    return false;
}

static void assert_all_shown(const char *text, const cfg_field *rows)
{
    for (; rows->key; rows++) {
        bool the_farms = strcmp(rows->key, "root") == 0; /* set by the farm, not by a person */
        if (!the_farms && !shows(text, rows->key))
            fail_msg("configs/farm.yaml does not show '%s'", rows->key);
    }
}

static void the_reference_shows_every_key(void **state)
{
    (void)state;
    char *text;
    size_t n;
    assert_int_equal(fs_read(in_configs("farm.yaml"), &text, &n, 1 << 20, NULL), 0);
    assert_all_shown(text, farm_fields);
    assert_all_shown(text, data_fields);
    assert_all_shown(text, train_fields);
    static const char *const of_concepts[] = {"name", "priority", "owner", "hold", "depends", "from", "of"};
    for (size_t i = 0; i < sizeof of_concepts / sizeof *of_concepts; i++)
        assert_true(shows(text, of_concepts[i]));
    free(text);
}

/* What is commented out is true as well: with the marks taken away (where a value, not a choice of ways, stands). */
static void what_is_commented_out_shows_defaults(void **state)
{
    (void)state;
    char *text;
    size_t n;
    assert_int_equal(fs_read(in_configs("farm.yaml"), &text, &n, 1 << 20, NULL), 0);
    for (const cfg_field *row = train_fields; row->key; row++) {
        char line[100];
        snprintf(line, sizeof line, "# %s: %s", row->key, row->fallback);
        const char *shown = strstr(text, line);
        snprintf(line, sizeof line, "  # %s: ", row->key);
        if (!shown && strstr(text, line) && row->type != CFG_REAL)
            fail_msg("configs/farm.yaml shows another default than '%s' for '%s'", row->fallback, row->key);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_example_is_read_to_its_last_key),
        cmocka_unit_test(the_reference_shows_every_key),
        cmocka_unit_test(what_is_commented_out_shows_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
