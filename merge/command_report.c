/* cfarm-merge report: a farm as one page. `cfarm report FARM` is the way here: it reads the farm's journal and hands it over as
 * --story. The page is a template (report/) with places for what the report_*.c write; it appears whole or not at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/mem.h"
#include "merge/command.h"
#include "merge/report.h"
#include "merge/report_parts.h"

static const cfg_field ROWS[] = {
    {"story", CFG_TEXT, CFG_AT(report_cfg, story), NULL, 1, 4000, .help = "the farm's history as JSON; cfarm report gives it"},
    {"out", CFG_TEXT, CFG_AT(report_cfg, out), "", .help = "the page; left out: FARM/report.html; also -o"},
    {"pictures", CFG_BOOL, CFG_AT(report_cfg, pictures), "true", .help = "picture grids and the blind test; they take the model"},
    {"model", CFG_TEXT, CFG_AT(report_cfg, model), "",
     .help = "the base model's folder; left out: where the concepts say it was"},
    {"prompt", CFG_TEXTS, CFG_AT(report_cfg, prompt), "",
     .help = "what to show, in a merge's words or with {0}, {1} for its subjects; may be given again. Shown where it names a "
             "subject"},
    {"prompts", CFG_TEXT, CFG_AT(report_cfg, prompts), "", .help = "a text file with a prompt a line"},
    {"steps", CFG_INT, CFG_AT(report_cfg, steps), "25", 1, 1000, .unit = "steps", .help = "calls of the model for a picture"},
    {"count", CFG_INT, CFG_AT(report_cfg, count), "2", 1, 100, .unit = "pictures", .help = "pictures of each prompt"},
    {"guidance", CFG_REAL, CFG_AT(report_cfg, guidance), "6", 0, 100, .help = "weight of the prompt; 1: no guidance"},
    {"seed", CFG_INT, CFG_AT(report_cfg, seed), "1", 0, 9e15, .help = "of the pictures, and of the blind test's order"},
    {"pairs", CFG_INT, CFG_AT(report_cfg, pairs), "60", 0, 10000, .help = "questions of the blind test at most"},
    {"most", CFG_INT, CFG_AT(report_cfg, most), "24", 1, 100000, .help = "results shown; the rest is counted"},
    {"cache", CFG_TEXT, CFG_AT(report_cfg, cache), "",
     .help = "where pictures are kept for the next report; left out: FARM/report"},
    CFG_END,
};

/* ---- what the farm made ---- */

static void words_of(report_result *x)
{
    const json_t *settings = json_object_get(x->job, "settings");
    json_t *recipe = x->c.recipe ? json_loads(x->c.recipe, 0, NULL) : NULL;
    const char *chosen = json_string_value(json_array_get(json_object_get(recipe, "identifiers"), 0));
    const char *token = chosen && *chosen ? chosen : report_text(settings, "token");
    eval_cfg own = {.class_word = report_text(settings, "class")};

    if (x->c.n_tokens == 0 && *token) /* a rare word of the vocabulary stands for the subject */
        own.token = (cfg_texts){&token, 1};
    eval_words_of(&x->words, &own, &x->c);
    json_decref(recipe);
}

static int read_result(report *r, const json_t *job, err *e)
{
    report_result x = {.job = job, .name = report_text(job, "name")};
    char path[FS_PATH];

    TRY(fs_join(path, report_text(r->story, "dir"), report_text(job, "file"), e));
    TRY(concept_read(&x.c, path, CONCEPT_HISTORY | CONCEPT_FACTORS, e));
    x.path = mem_text(path);
    words_of(&x);
    r->at = mem_grow(r->at, (size_t)r->n + 1, sizeof *r->at);
    r->at[r->n++] = x;
    return 0;
}

/* Merges first: what is left out of a large farm shall not be what it was made for. */
static int read_results(report *r, err *e)
{
    for (int merges = 1; merges >= 0; merges--)
        for (size_t i = 0; i < json_array_size(r->jobs); i++) {
            const json_t *job = json_array_get(r->jobs, i);
            if (!report_text(job, "file")[0] || report_is_merge(job) != (merges == 1))
                continue;
            if (r->n >= r->set->most)
                r->left_out++;
            else
                TRY(read_result(r, job, e));
        }
    return 0;
}

/* ---- the page ---- */

enum { PARTS = 12 };
typedef struct { const char *place; str text; } part;

static int write_parts(part at[PARTS], const report *r, err *e)
{
    static const char *const places[PARTS] = {"{{title}}",    "{{lede}}",     "{{facts}}",        "{{pictures}}",
                                              "{{curves}}",   "{{timeline}}", "{{certificates}}", "{{failures}}",
                                              "{{settings}}", "{{pairs}}",    "{{style}}",        "{{script}}"};
    for (int i = 0; i < PARTS; i++) {
        at[i].place = places[i];
        str_put(&at[i].text, "", 0);
    }
    report_add(&at[0].text, report_text(r->story, "farm"));
    report_lede(&at[1].text, r);
    report_facts(&at[2].text, r);
    report_curves(&at[4].text, r);
    report_timeline(&at[5].text, r);
    report_certificates(&at[6].text, r);
    report_failures(&at[7].text, r);
    TRY(report_settings(&at[8].text, r, e));
    TRY(report_pictures(&at[3].text, &at[9].text, r, e));
    str_add(&at[10].text, "%s", report_css);
    str_add(&at[11].text, "%s", report_js);
    return 0;
}

static const part *part_at(const part at[PARTS], const char *text)
{
    for (int i = 0; i < PARTS; i++)
        if (str_starts(text, at[i].place))
            return &at[i];
    return NULL;
}

static void fill(str *to, const part at[PARTS])
{
    for (const char *c = report_html; *c;) {
        const part *p = part_at(at, c);
        if (p)
            str_put(to, p->text.at, p->text.n);
        else
            str_put(to, c, 1);
        c += p ? strlen(p->place) : 1;
    }
}

static int write_page(const report *r, const char *out, err *e)
{
    part at[PARTS] = {0};
    str page = {0};
    int rc = write_parts(at, r, e);

    if (rc == 0) {
        fill(&page, at);
        rc = fs_write(out, page.at, page.n, e);
    }
    for (int i = 0; i < PARTS; i++)
        str_free(&at[i].text);
    str_free(&page);
    return rc;
}

/* ---- the command ---- */

static int make(report *r, err *e)
{
    char out[FS_PATH];

    TRY(read_results(r, e));
    if (r->set->out[0])
        str_copy(out, sizeof out, r->set->out);
    else
        TRY(fs_join(out, report_text(r->story, "dir"), "report.html", e));
    TRY(write_page(r, out, e));
    log_event(r->log, "report", TEXT("page", out), INT("results", r->n));
    return 0;
}

static int run(const void *set, char *const file[], int n, logger *log, err *e)
{
    report r = {.set = set, .log = log};
    json_t *story = NULL;

    (void)file, (void)n;
    TRY(json_read(&story, r.set->story, e));
    r.story = story;
    r.jobs = json_object_get(story, "jobs");
    int rc = make(&r, e);
    for (int i = 0; i < r.n; i++) {
        eval_words_free(&r.at[i].words);
        concept_free(&r.at[i].c);
        free(r.at[i].path);
    }
    free(r.at);
    json_decref(story);
    return rc;
}

const command command_report = {"report", "FARM", "a farm as one self-contained page", ROWS, sizeof(report_cfg), 1, 1, run};
