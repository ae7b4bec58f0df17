/* Rows: what they take, what they refuse and in which words, flags, help, and the values as JSON. */
#include "tests/cluster/scratch.h"

#include <limits.h>
#include <math.h>

#include "cluster/base/str.h"
#include "configs/cfg.h"
#include "configs/cfg_impl.h"
#include "configs/cfg_yaml.h"

#define NAMES(...)                                                                                                     \
    .names = (const char *const[])                                                                                     \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }

typedef struct {
    const char *word;
    int n;
} subject;

typedef struct {
    bool flip;
    int64_t steps, room;
    int few, compat;
    double lr, limit, part;
    float beta;
    const char *name, *images, *prompt;
    cfg_texts moves, on;
    cfg_table subjects;
    const cfg_node *rest;
} settings;

static const cfg_field subject_rows[] = {
    {"class", CFG_TEXT, CFG_AT(subject, word), NULL, 1, 20, .help = "what it is"},
    {"n", CFG_INT, CFG_AT(subject, n), "3", 1, 9, .help = "how many"},
    CFG_END,
};
static const cfg_field data_rows[] = {
    {"name", CFG_TEXT, CFG_AT(settings, name), NULL, 1, 12, .help = "the name"},
    {"regularisation.images", CFG_TEXT, CFG_AT(settings, images), "", .help = "folder of class pictures"},
    {"regularisation.part", CFG_PERCENT, CFG_AT(settings, part), "50%", 0.01, 1, .help = "part of the batch"},
    {"flip", CFG_BOOL, CFG_AT(settings, flip), "false", .help = "mirror half of the pictures"},
    {"subjects", CFG_TABLE, CFG_AT(settings, subjects), "", 0, 3, .rows = subject_rows, .each = sizeof(subject),
     .help = "several subjects"},
    CFG_END,
};
static const cfg_field train_rows[] = {
    {"steps", CFG_INT, CFG_AT(settings, steps), "250", 1, 1e6, .unit = "steps", .help = "steps of training"},
    {"few", CFG_INT, CFG_AT(settings, few), "auto", 1, INFINITY, .help = "a few", NAMES("auto", "none")},
    {"lr", CFG_REAL, CFG_AT(settings, lr), "auto", 0, 1, .help = "learning rate", NAMES("auto")},
    {"beta", CFG_REAL, CFG_AT(settings, beta), "0.9", .help = "decay"},
    {"compat", CFG_CHOICE, CFG_AT(settings, compat), "paper", .help = "whose details", NAMES("paper", "diffusers")},
    {"room", CFG_BYTES, CFG_AT(settings, room), "1GiB", 1024, 0x1p40, .help = "memory"},
    {"limit", CFG_SECONDS, CFG_AT(settings, limit), "none", 1, 604800, .help = "time", NAMES("none")},
    {"moves", CFG_TEXTS, CFG_AT(settings, moves), "[to_k, to_v]", 1, 4, .help = "what moves"},
    {"on", CFG_TEXTS, CFG_AT(settings, on), "", .help = "events", NAMES("done", "end")},
    {"prompt", CFG_TEXT, CFG_AT(settings, prompt), "a cat", .help = "what to draw"},
    {"rest", CFG_TREE, CFG_AT(settings, rest), "", .help = "somebody else's"},
    CFG_END,
};

/* A reader of both sections; free the document. */
typedef struct {
    cfg_doc *d;
    settings s;
    cfg_section sections[2];
    const cfg *filled;
    err e;
} fixture;

static void start(fixture *f)
{
    memset(f, 0, sizeof *f);
    memset(&f->s, 0xa5, sizeof f->s); /* a member that no row sets shows */
    f->d = cfg_doc_new();
    f->sections[0] = (cfg_section){"data", data_rows, &f->s};
    f->sections[1] = (cfg_section){"train", train_rows, &f->s};
}

static int fill(fixture *f, const char *text, const cfg_node *flags)
{
    const cfg_node *map;
    TRY(cfg_yaml_parse(&map, f->d, text, strlen(text), "x.yaml", &f->e));
    return cfg_fill(&f->filled, f->d, f->sections, 2, cfg_join(f->d, map, flags), &f->e);
}

static void start_filled(fixture *f, const char *text)
{
    start(f);
    if (fill(f, text, NULL) != 0)
        fail_msg("%s", f->e.text);
}

static void what_is_not_given_is_the_fallback(void **state)
{
    (void)state;
    fixture f;
    start_filled(&f, "name: rex\n");
    assert_string_equal(f.s.name, "rex");
    assert_string_equal(f.s.images, "");
    assert_true(f.s.part == 0.5 && !f.s.flip && f.s.steps == 250 && f.s.few == CFG_WORD && f.s.lr == CFG_WORD);
    assert_true(f.s.beta == 0.9f && f.s.compat == 0 && f.s.room == 1 << 30 && f.s.limit == CFG_WORD);
    assert_true(f.s.subjects.n == 0 && f.s.on.n == 0 && f.s.moves.n == 2 && !f.s.rest);
    assert_string_equal(f.s.moves.at[1], "to_v");
    assert_string_equal(f.s.prompt, "a cat");
    cfg_doc_free(f.d);
}

static void what_is_given_is_taken_in_its_type(void **state)
{
    (void)state;
    fixture f;
    start_filled(&f, "name: 123\nregularisation: {images: data/cat, part: 12.5%}\nflip: yes\nsteps: 1000000\nfew: "
                     "none\n"
                     "lr: 8.0e-5\nbeta: -1\ncompat: diffusers\nroom: 1.5GiB\nlimit: 1h30m\nmoves: to_q\non: [end, "
                     "done]\n"
                     "prompt: ''\nsubjects:\n  - {class: dog}\n  - {class: cat, n: 9}\nrest: {any: [1]}\n");
    assert_string_equal(f.s.name, "123");
    assert_string_equal(f.s.images, "data/cat");
    assert_true(f.s.part == 0.125 && f.s.flip && f.s.steps == 1000000 && f.s.few == CFG_WORD - 1 && f.s.lr == 8e-5);
    assert_true(f.s.beta == -1 && f.s.compat == 1 && f.s.room == 3 << 29 && f.s.limit == 5400);
    assert_true(f.s.moves.n == 1 && f.s.on.n == 2 && f.s.subjects.n == 2);
    assert_string_equal(f.s.moves.at[0], "to_q");
    const subject *subjects = f.s.subjects.at;
    assert_string_equal(subjects[1].word, "cat");
    assert_true(subjects[0].n == 3 && subjects[1].n == 9);
    assert_string_equal(f.s.prompt, "");
    assert_int_equal(cfg_get(f.s.rest, "any")->n, 1);
    cfg_doc_free(f.d);
}

static void null_is_as_if_it_were_not_there(void **state)
{
    (void)state;
    fixture f;
    start_filled(&f, "name: rex\nregularisation: null\nsteps: ~\nsubjects:\n");
    assert_true(f.s.steps == 250 && f.s.part == 0.5 && f.s.subjects.n == 0);
    cfg_doc_free(f.d);
}

static void units_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double room, limit; /* NaN: refused */
    } rows[] = {
        {"4096", 4096, 4096},   {"8GiB", 0x1p33, NAN}, {"8 GiB", 0x1p33, NAN},  {"500MB", 5e8, NAN},
        {"2kB", 2000, NAN},     {"2KiB", 2048, NAN},   {"1TiB", 0x1p40, NAN},   {"2TiB", NAN, NAN},
        {"1e3MB", 1e9, NAN},    {"90s", NAN, 90},      {"5m", NAN, 300},        {"1h30m", NAN, 5400},
        {"1h 30m", NAN, NAN},   {"1500ms", NAN, 1.5},  {"7d", NAN, 604800},     {"8d", NAN, NAN},
        {"2d12h", NAN, 216000}, {"1h30", NAN, NAN},    {"500m", NAN, 30000},    {"10ms", NAN, NAN},
        {"8gib", NAN, NAN},     {"-5m", NAN, NAN},     {"8GiBs", NAN, NAN},     {"8GiB5MiB", NAN, NAN},
        {"infs", NAN, NAN},     {"0x10", NAN, NAN},    {"none", NAN, CFG_WORD}, {"2048B", 2048, NAN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int which = 0; which < 2; which++) {
            fixture f;
            char text[100];
            snprintf(text, sizeof text, "name: x\n%s: \"%s\"\n", which ? "limit" : "room", rows[i].text);
            start(&f);
            int rc = fill(&f, text, NULL);
            double want = which ? rows[i].limit : rows[i].room, got = which ? f.s.limit : (double)f.s.room;
            if (isnan(want) ? rc != ERR_INPUT : rc != 0 || got != want)
                fail_msg("%s: %d %g, not %g (%s)", rows[i].text, rc, got, want, f.e.text);
            cfg_doc_free(f.d);
        }
    }
}

/* Thirty and more mistakes, and the sentence each gets. */
static const struct {
    const char *text, *said;
} WRONG[] = {
    {"steps: 3\n", "x.yaml:1:1: 'name' is missing: the name"},
    {"{}", "x.yaml:1:1: 'name' is missing: the name"},
    {"[]", "x.yaml:1:1: settings are a map, key: value"},
    {"name: x\nstesp: 3\n", "x.yaml:2:1: unknown key 'stesp'; did you mean 'steps'?"},
    {"name: x\nregularization: {images: y}\n", "x.yaml:2:1: unknown key 'regularization'; did you mean "
                                               "'regularisation'?"},
    {"name: x\nregularisation:\n  image: y\n", "x.yaml:3:3: unknown key 'regularisation.image'; did you mean "
                                               "'images'?"},
    {"name: x\nregularisation: {zebra: 1}\n", "x.yaml:2:18: unknown key 'regularisation.zebra'; known are images, "
                                              "part"},
    {"name: x\nzebra_crossing: 1\n", "x.yaml:2:1: unknown key 'zebra_crossing'"},
    {"name: x\nregularisation.images: y\n", "x.yaml:2:1: 'regularisation.images' is written 'regularisation: {images: "
                                            "...}' in a file"},
    {"name: x\nregularisation.imagse: y\n", "x.yaml:2:1: unknown key 'regularisation.imagse'; did you mean "
                                            "'regularisation'?"},
    {"name: x\nregularisation: data/cat\n", "x.yaml:2:17: 'regularisation' is 'data/cat', not a map of images, part"},
    {"name: x\nregularisation: [1]\n", "x.yaml:2:17: 'regularisation' is a list, not a map of images, part"},
    {"name: x\nsteps: many\n", "x.yaml:2:8: 'steps' is 'many', not a whole number from 1 to 1000000 steps"},
    {"name: x\nsteps: 0\n", "x.yaml:2:8: 'steps' is '0', not a whole number from 1 to 1000000 steps"},
    {"name: x\nsteps: 2.5\n", "x.yaml:2:8: 'steps' is '2.5', not a whole number from 1 to 1000000 steps"},
    {"name: x\nsteps: 1e3\n", "x.yaml:2:8: 'steps' is '1e3', not a whole number from 1 to 1000000 steps"},
    {"name: x\nsteps: ''\n", "x.yaml:2:8: 'steps' is '', not a whole number from 1 to 1000000 steps"},
    {"name: x\nsteps: 99999999999999999999\n", "x.yaml:2:8: 'steps' is '99999999999999999999', not a whole number from "
                                               "1 to 1000000 steps"},
    {"name: x\nsteps: [3]\n", "x.yaml:2:8: 'steps' is a list, not a whole number from 1 to 1000000 steps"},
    {"name: x\nsteps: {a: 3}\n", "x.yaml:2:8: 'steps' is a map, not a whole number from 1 to 1000000 steps"},
    {"name: x\nfew: 0\n", "x.yaml:2:6: 'few' is '0', not a whole number of at least 1, or auto or none"},
    {"name: x\nfew: 3000000000\n", "x.yaml:2:6: 'few' is '3000000000', not a whole number of at least 1, or auto or "
                                   "none"},
    {"name: x\nlr: fast\n", "x.yaml:2:5: 'lr' is 'fast', not a number from 0 to 1, or auto"},
    {"name: x\nlr: -0.1\n", "x.yaml:2:5: 'lr' is '-0.1', not a number from 0 to 1, or auto"},
    {"name: x\nlr: nan\n", "x.yaml:2:5: 'lr' is 'nan', not a number from 0 to 1, or auto"},
    {"name: x\nlr: 1e-4x\n", "x.yaml:2:5: 'lr' is '1e-4x', not a number from 0 to 1, or auto"},
    {"name: x\nbeta: 1e999\n", "x.yaml:2:7: 'beta' is '1e999', not a number"},
    {"name: x\nbeta: 0x1p3\n", "x.yaml:2:7: 'beta' is '0x1p3', not a number"},
    {"name: x\nflip: maybe\n", "x.yaml:2:7: 'flip' is 'maybe', not true or false"},
    {"name: x\ncompat: diffuser\n", "x.yaml:2:9: 'compat' is 'diffuser', not paper or diffusers; did you mean "
                                    "'diffusers'?"},
    {"name: x\ncompat: torch\n", "x.yaml:2:9: 'compat' is 'torch', not paper or diffusers"},
    {"name: x\nroom: 12 apples\n", "x.yaml:2:7: 'room' is '12 apples', not a size such as 8GiB, from 1KiB to 1TiB"},
    {"name: x\nroom: 1\n", "x.yaml:2:7: 'room' is '1', not a size such as 8GiB, from 1KiB to 1TiB"},
    {"name: x\nlimit: soon\n", "x.yaml:2:8: 'limit' is 'soon', not a time such as 90s, 5m or 1h30m, from 1s to 7d, or "
                               "none"},
    {"name: x\nregularisation: {part: 0.5}\n", "x.yaml:2:24: 'regularisation.part' is '0.5', not a percentage such as "
                                               "90%, from 1% to 100%"},
    {"name: x\nregularisation: {part: 101%}\n", "x.yaml:2:24: 'regularisation.part' is '101%', not a percentage such "
                                                "as 90%, from 1% to 100%"},
    {"name: thirteen-more\n", "x.yaml:1:7: 'name' is 'thirteen-more', not a text of 1 to 12 bytes"},
    {"name: ''\n", "x.yaml:1:7: 'name' is '', not a text of 1 to 12 bytes"},
    {"name: \"a\\nb and so on and so on and so on and so on and so on and so on\"\n", "x.yaml:1:7: 'name' is 'a b and "
                                                                                      "so on and so on and so on and "
                                                                                      "so on and ...', not a text of 1 "
                                                                                      "to 12 bytes"},
    {"name: x\nmoves: []\n", "x.yaml:2:8: 'moves' is a list, not a list of texts of 1 to 4 entries"},
    {"name: x\nmoves: [a, [b]]\n", "x.yaml:2:12: 'moves' is a list, not a list of texts of 1 to 4 entries"},
    {"name: x\nmoves: {a: b}\n", "x.yaml:2:8: 'moves' is a map, not a list of texts of 1 to 4 entries"},
    {"name: x\nmoves: [null]\n", "x.yaml:2:9: 'moves' is null, not a list of texts of 1 to 4 entries"},
    {"name: x\non: [done, finished]\n", "x.yaml:2:12: 'on' is 'finished', not a list of done or end"},
    {"name: x\non: dona\n", "x.yaml:2:5: 'on' is 'dona', not a list of done or end; did you mean 'done'?"},
    {"name: x\nsubjects: dog\n", "x.yaml:2:11: 'subjects' is 'dog', not a list of maps of 0 to 3 entries"},
    {"name: x\nsubjects: [dog]\n", "x.yaml:2:12: 'subjects' is 'dog', not a list of maps of 0 to 3 entries"},
    {"name: x\nsubjects: [{class: a}, {n: 3}]\n", "x.yaml:2:24: 'subjects[1].class' is missing: what it is"},
    {"name: x\nsubjects:\n  - {class: a, N: 3}\n", "x.yaml:3:16: unknown key 'N'; known are class, n"},
    {"name: x\nsubjects:\n  - {clas: a}\n", "x.yaml:3:6: unknown key 'clas'; did you mean 'class'?"},
    {"name: x\nsubjects: {class: a, n: 10}\n", "x.yaml:2:25: 'subjects[0].n' is '10', not a whole number from 1 to 9"},
};

static void a_choice_of_yes_and_no_takes_all_words_for_them(void **state)
{
    (void)state;
    const cfg_field row = {"mirror", CFG_CHOICE, 0, sizeof(int), "auto", .help = "mirror", NAMES("auto", "yes", "no")};
    static const struct { const char *text; int is; } words[] = {{"yes", 1}, {"true", 1}, {"on", 1}, {"no", 2}, {"false", 2}, {"off", 2},
                                                                 {"auto", 0}};
    int got = -1;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        assert_true(cfg_parse(&row, words[i].text, &got) && got == words[i].is);
    assert_false(cfg_parse(&row, "maybe", &got));
}

static void each_mistake_gets_its_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        fixture f;
        start(&f);
        assert_int_equal(fill(&f, WRONG[i].text, NULL), ERR_INPUT);
        assert_string_equal(f.e.text, WRONG[i].said);
        assert_null(f.filled);
        cfg_doc_free(f.d);
    }
}

static void values_go_out_as_json_and_come_back_the_same(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "name: rex\n",
        "name: \"12\"\nlr: 0.1\nbeta: 0.1\nroom: 1537MiB\nlimit: 90s\nregularisation: {part: 7%, images: 'a \"b\"'}\n",
        "name: t\nlr: 3.0000000000000004e-5\nprompt: ''\nlimit: 0.1h\nsteps: 3\nfew: 2\non: end\nflip: on\n"
        "subjects: [{class: 'true'}, {class: \"\xc3\xa9\", n: 2}]\nrest: {x: 1.50, y: [yes]}\n",
        "name: t\nregularisation: {part: 33.333333333333336%}\nlimit: 86400\nroom: 1048577\nmoves: [a, '1', 'null']\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f, g;
        start_filled(&f, rows[i]);
        char *first = cfg_values(f.filled);
        start_filled(&g, first);
        char *second = cfg_values(g.filled);
        assert_string_equal(first, second);
        assert_true(f.s.lr == g.s.lr && f.s.beta == g.s.beta && f.s.part == g.s.part && f.s.limit == g.s.limit);
        assert_true(f.s.room == g.s.room && f.s.steps == g.s.steps && f.s.few == g.s.few && f.s.flip == g.s.flip);
        free(first);
        free(second);
        cfg_doc_free(f.d);
        cfg_doc_free(g.d);
    }
    fixture f;
    start_filled(&f, rows[2]);
    char *text = cfg_values(f.filled);
    assert_string_equal(text, "{\"beta\":0.9,\"compat\":\"paper\",\"few\":2,\"flip\":true,\"limit\":\"6m\","
                              "\"lr\":3.0000000000000004e-05,\"moves\":[\"to_k\",\"to_v\"],\"name\":\"t\",\"on\":["
                              "\"end\"],"
                              "\"prompt\":\"\",\"regularisation\":{\"part\":\"50%\"},\"rest\":{\"x\":1.50,\"y\":["
                              "\"yes\"]},"
                              "\"room\":\"1GiB\",\"steps\":3,\"subjects\":[{\"class\":\"true\",\"n\":3},"
                              "{\"class\":\"\xc3\xa9\",\"n\":2}]}");
    free(text);
    cfg_doc_free(f.d);
}

static int args(fixture *f, cfg_node **flags, int *argc, char **argv)
{
    TRY(cfg_args(flags, f->d, f->sections, 2, argc, argv, &f->e));
    return cfg_args_done(f->sections, 2, *argc, argv, &f->e);
}

static void flags_go_over_the_file_by_the_same_rows(void **state)
{
    (void)state;
    fixture f;
    cfg_node *flags;
    char *argv[] = {"farm.yaml",
                    "--steps",
                    "500",
                    "--train.lr=1e-4",
                    "--flip",
                    "-x",
                    "--on",
                    "done",
                    "--on=end",
                    "--regularisation.images",
                    "data/dog",
                    "--subjects={class: dog}",
                    "--moves=[a, b]",
                    "--beta",
                    "-1",
                    "--",
                    "--steps",
                    NULL};
    int argc = 17;
    start(&f);
    assert_int_equal(args(&f, &flags, &argc, argv), 0);
    assert_int_equal(argc, 4);
    assert_string_equal(argv[0], "farm.yaml");
    assert_string_equal(argv[1], "-x");
    assert_string_equal(argv[2], "--");
    assert_string_equal(argv[3], "--steps");
    assert_null(argv[4]);
    assert_int_equal(fill(&f, "name: x\nsteps: 3\nlr: 1\nregularisation: {part: 1%, images: no}\non: done\n", flags),
                     0);
    assert_true(f.s.steps == 500 && f.s.lr == 1e-4 && f.s.flip && f.s.on.n == 2 && f.s.subjects.n == 1);
    assert_true(f.s.moves.n == 2 && f.s.part == 0.01 && f.s.beta == -1);
    assert_string_equal(f.s.images, "data/dog");
    cfg_doc_free(f.d);
}

static void wrong_flags_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *one, *two, *said;
    } rows[] = {
        {"--stesp", "3", "unknown flag '--stesp'; did you mean '--steps'?"},
        {"--zebra=3", NULL, "unknown flag '--zebra'; --help lists them"},
        {"--steps", NULL, "--steps needs a value: a whole number from 1 to 1000000 steps"},
        {"--steps=3", "--steps=4", "--steps is given twice"},
        {"--steps=x", NULL, "--steps: 'steps' is 'x', not a whole number from 1 to 1000000 steps"},
        {"--train.lr", "x", "--train.lr: 'lr' is 'x', not a number from 0 to 1, or auto"},
        {"--data.lr=1", NULL, "unknown flag '--data.lr'; --help lists them"},
        {"--flip=7", NULL, "--flip: 'flip' is '7', not true or false"},
        {"--moves=[a", NULL,
         "--moves:2:1: did not find expected ',' or ']' while parsing a flow sequence that began at 1:1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fixture f;
        cfg_node *flags;
        char one[40], two[40], *argv[] = {one, rows[i].two ? two : NULL, NULL};
        int argc = rows[i].two ? 2 : 1;
        snprintf(one, sizeof one, "%s", rows[i].one);
        snprintf(two, sizeof two, "%s", rows[i].two ? rows[i].two : "");
        start(&f);
        int rc = args(&f, &flags, &argc, argv);
        if (rc == 0)
            rc = fill(&f, "name: x", flags);
        assert_int_equal(rc, ERR_INPUT);
        assert_string_equal(f.e.text, rows[i].said);
        cfg_doc_free(f.d);
    }
}

/* What is printed; good until the next call. */
static const char *printed(void (*print)(FILE *to, const fixture *f), const fixture *f)
{
    static char text[1 << 14];
    FILE *to = fmemopen(text, sizeof text, "w");
    print(to, f);
    fclose(to);
    return text;
}

static void print_show(FILE *to, const fixture *f)
{
    cfg_show(to, f->filled);
}

static void print_help(FILE *to, const fixture *f)
{
    cfg_help(to, f->sections, 2);
}

static void assert_line(const char *text, const char *line)
{
    const char *found = strstr(text, line);
    if (!found || (found != text && found[-1] != '\n'))
        fail_msg("no line\n%s\nin\n%s", line, text);
}

static void showing_tells_each_value_and_where_it_came_from(void **state)
{
    (void)state;
    fixture f;
    cfg_node *flags;
    char *argv[] = {"--steps=500", NULL};
    int argc = 1;
    start(&f);
    assert_int_equal(args(&f, &flags, &argc, argv), 0);
    assert_int_equal(fill(&f, "name: rex\nlr: 8e-5\nsubjects:\n  - class: dog\n", flags), 0);
    const char *text = printed(print_show, &f);
    assert_line(text, "name                         rex                          # x.yaml:1:7\n");
    assert_line(text, "steps                        500                          # --steps\n");
    assert_line(text, "lr                           8e-05                        # x.yaml:2:5\n");
    assert_line(text, "subjects                     1 entries                    # x.yaml:4:3\n");
    assert_line(text, "subjects[0].class            dog                          # x.yaml:4:12\n");
    assert_line(text, "subjects[0].n                3                            # default\n");
    assert_line(text, "moves                        [to_k, to_v]                 # default\n");
    cfg_doc_free(f.d);
}

static void help_comes_from_the_rows(void **state)
{
    (void)state;
    fixture f;
    start(&f);
    const char *text = printed(print_help, &f);
    assert_line(text, "train:\n");
    assert_line(text, "  --steps                      steps of training\n"
                      "                               a whole number from 1 to 1000000 steps; default 250\n");
    assert_line(text, "  --name                       the name\n"
                      "                               a text of 1 to 12 bytes; must be given\n");
    assert_line(text, "  --regularisation.images      folder of class pictures\n"
                      "                               a text; default none\n");
    assert_line(text, "      class                    what it is\n");
    cfg_doc_free(f.d);
}

static void without_a_file_the_fallbacks_stand(void **state)
{
    (void)state;
    fixture f;
    start(&f);
    assert_int_equal(cfg_fill(NULL, f.d, &f.sections[1], 1, NULL, &f.e), 0);
    assert_int_equal(f.s.steps, 250);
    assert_int_equal(cfg_fill(NULL, f.d, f.sections, 2, NULL, &f.e), ERR_INPUT);
    assert_string_equal(f.e.text, "settings: 'name' is missing: the name");
    cfg_doc_free(f.d);
}

/* Maps that share branches: what differs is read, what does not stays, and what cfg_fill would refuse is left to it. */
static void what_differs_alone_is_read_again(void **state)
{
    static const struct { const char *over; bool read; } rows[] = {
        {"{name: tabby, steps: 7}", true},
        {"{name: tabby, steps: 0}", false},           /* refused */
        {"{name: tabby, few: 3}", false},             /* a key more */
        {"{name: tabby, subjects: {class: x}}", false},
        {"{name: tabby, regularisation: {images: y}}", false},
        {"{name: ~, steps: 7}", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const cfg_node *like, *over;
        fixture f;
        start(&f);
        const char *text = "{name: rex, steps: 5, moves: [a], subjects: {class: dog}, regularisation: {images: here}}";
        assert_int_equal(cfg_yaml_parse(&like, f.d, text, strlen(text), "x.yaml", &f.e), 0);
        assert_int_equal(cfg_fill(NULL, f.d, f.sections, 2, like, &f.e), 0);
        assert_int_equal(cfg_yaml_parse(&over, f.d, rows[i].over, strlen(rows[i].over), "y.yaml", &f.e), 0);
        assert_int_equal(cfg_refill(f.d, f.sections, 2, cfg_join(f.d, like, over), like), rows[i].read);
        if (rows[i].read)
            assert_true(strcmp(f.s.name, "tabby") == 0 && f.s.steps == 7 && strcmp(f.s.moves.at[0], "a") == 0 &&
                        strcmp(f.s.images, "here") == 0 && f.s.subjects.n == 1);
        cfg_doc_free(f.d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_given_is_the_fallback),
        cmocka_unit_test(what_is_given_is_taken_in_its_type),
        cmocka_unit_test(null_is_as_if_it_were_not_there),
        cmocka_unit_test(units_are_read),
        cmocka_unit_test(a_choice_of_yes_and_no_takes_all_words_for_them),
        cmocka_unit_test(each_mistake_gets_its_sentence),
        cmocka_unit_test(values_go_out_as_json_and_come_back_the_same),
        cmocka_unit_test(flags_go_over_the_file_by_the_same_rows),
        cmocka_unit_test(wrong_flags_are_told),
        cmocka_unit_test(showing_tells_each_value_and_where_it_came_from),
        cmocka_unit_test(help_comes_from_the_rows),
        cmocka_unit_test(without_a_file_the_fallbacks_stand),
        cmocka_unit_test(what_differs_alone_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
