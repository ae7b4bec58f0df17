/* The page's words and tables: how it went, with what, what the merges promise, what failed and why, and every setting. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "merge/report.h"
#include "trainer/eval/page.h"

enum { FARM_FILE_MOST = 16 << 20, WORST = 50 };

/* ---- shared ---- */

const char *report_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

double report_number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

void report_add(str *to, const char *text)
{
    page_text(to, text ? text : "");
}

void report_seconds(str *to, double s)
{
    long whole = (long)(s + 0.5);

    if (s < 10)
        str_add(to, "%.2g s", s);
    else if (whole < 120)
        str_add(to, "%ld s", whole);
    else if (whole < 7200)
        str_add(to, whole % 60 ? "%ld min %ld s" : "%ld min", whole / 60, whole % 60);
    else
        str_add(to, whole / 60 % 60 ? "%ld h %ld min" : "%ld h", whole / 3600, whole / 60 % 60);
}

bool report_is_merge(const json_t *job)
{
    return strcmp(report_text(job, "kind"), "merge") == 0;
}

/* ---- how it went ---- */

typedef struct { int concepts, learned, merges, merged, failed, waiting; } tally;

static tally count_jobs(const report *r)
{
    tally t = {0};

    for (size_t i = 0; i < json_array_size(r->jobs); i++) {
        const json_t *job = json_array_get(r->jobs, i);
        const char *state = report_text(job, "state");
        bool merge = report_is_merge(job), done = strcmp(state, "done") == 0;
        bool failed = strcmp(state, "quarantined") == 0 || strcmp(state, "rejected") == 0;
        t.concepts += !merge;
        t.learned += !merge && done;
        t.merges += merge;
        t.merged += merge && done;
        t.failed += failed;
        t.waiting += !done && !failed && strcmp(state, "cancelled") != 0;
    }
    return t;
}

void report_lede(str *to, const report *r)
{
    tally t = count_jobs(r);
    bool running = json_is_true(json_object_get(r->story, "running"));

    str_add(to, "%d of %d concept%s learned", t.learned, t.concepts, t.concepts == 1 ? "" : "s");
    if (t.merges)
        str_add(to, ", %d of %d merge%s made", t.merged, t.merges, t.merges == 1 ? "" : "s");
    if (t.failed)
        str_add(to, ", %d failed for good", t.failed);
    if (t.waiting)
        str_add(to, ", %d still to be done", t.waiting);
    str_add(to, running ? "; the farm was running when this page was made." : ".");
}

/* ---- with what ---- */

static void fact(str *to, const char *what, const char *value)
{
    str_add(to, "<dt>");
    report_add(to, what);
    str_add(to, "</dt><dd>");
    report_add(to, value);
    str_add(to, "</dd>\n");
}

/* One value, or "various". */
typedef struct {
    char *is; /* NULL: none yet */
    bool various;
} shared;

static void share(shared *s, const char *value)
{
    if (!s->is)
        s->is = mem_text(value);
    s->various = s->various || strcmp(s->is, value) != 0;
}

/* "" stands for a concept that does not say it. */
static void tell_shared(str *to, const char *what, shared *s)
{
    if (s->is && (s->various || *s->is))
        fact(to, what, s->various ? "various" : s->is);
    free(s->is);
}

enum { AS_WRITTEN = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15) }; /* 0.1 is no 0.10000000000000001 */

static void common(str *to, const report *r, const char *what, const char *key)
{
    shared s = {0};

    for (size_t i = 0; i < json_array_size(r->jobs); i++) {
        const json_t *job = json_array_get(r->jobs, i), *one = json_object_get(json_object_get(job, "settings"), key);
        const char *text = json_string_value(one);
        char *is = text ? mem_text(text) : one ? json_dumps(one, AS_WRITTEN) : NULL;
        if (!report_is_merge(job))
            share(&s, is ? is : "");
        free(is);
    }
    tell_shared(to, what, &s);
}

/* As the results have it: a setting may leave it to the default. */
static void methods(str *to, const report *r)
{
    shared s = {0};

    for (int i = 0; i < r->n; i++)
        if (r->at[i].c.kind == CONCEPT_SINGLE)
            share(&s, r->at[i].c.method);
    tell_shared(to, "Method", &s);
}

static void machine(str *to, const report *r)
{
    const json_t *here = json_object_get(r->story, "machine"), *nodes = json_object_get(r->story, "nodes");
    str text = {0};

    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const char *name = json_string_value(json_array_get(nodes, i));
        if (strcmp(name, "coordinator") != 0)
            str_add(&text, "%s%s", text.n ? ", " : "", name);
    }
    if (text.n)
        fact(to, "Nodes", text.at);
    str_free(&text);
    str_add(&text, "%s: %d cores, %.1f GiB", report_text(here, "name"), (int)report_number(here, "cores"),
            report_number(here, "memory") / (1 << 30));
    fact(to, "Page made on", text.at);
    str_free(&text);
}

static void time_facts(str *to, const report *r)
{
    double began = report_number(r->story, "began"), ended = report_number(r->story, "ended");
    char when[32];
    str text = {0};

    if (began <= 0)
        return;
    clock_iso(when, (int64_t)began);
    when[16] = '\0';
    when[10] = ' ';
    str_add(&text, "%s UTC, ", when);
    report_seconds(&text, (ended - began) / 1000);
    str_add(&text, " to the journal's last word");
    fact(to, "Begun", text.at);
    str_free(&text);
}

/* "train 91.2 %, load 3.0 %, ...": the shares add up to the whole, so what is nothing is left out. */
static void slot_facts(str *to, const report *r)
{
    const json_t *slots = json_object_get(r->story, "slots"), *v;
    double sum = 0;
    str text = {0};
    size_t i;

    json_array_foreach(slots, i, v)
        sum += report_number(v, "seconds");
    if (!(sum > 0))
        return;
    report_seconds(&text, sum);
    str_add(&text, " since the last start: ");
    bool first = true;
    json_array_foreach(slots, i, v) {
        if (!(report_number(v, "seconds") > 0))
            continue;
        str_add(&text, "%s%s %.1f %%", first ? "" : ", ", report_text(v, "use"), 100 * report_number(v, "seconds") / sum);
        first = false;
    }
    fact(to, "Slots' time", text.at);
    str_free(&text);
}

void report_facts(str *to, const report *r)
{
    str_add(to, "<dl class=\"facts\">\n");
    common(to, r, "Base model", "base");
    methods(to, r);
    common(to, r, "Steps", "steps");
    common(to, r, "Batch", "batch");
    common(to, r, "Learning rate", "lr");
    common(to, r, "Compat", "compat");
    common(to, r, "Seed", "seed");
    time_facts(to, r);
    slot_facts(to, r);
    machine(to, r);
    fact(to, "Program", "conceptfarm " CFARM_VERSION);
    fact(to, "Folder", report_text(r->story, "dir"));
    str_add(to, "</dl>\n");
}

/* ---- certificates ---- */

static void row(str *to, const char *what, const json_t *c, const char *key, double scale, const char *unit)
{
    const json_t *v = json_object_get(c, key);

    if (json_is_number(v) && json_number_value(v) != 0)
        str_add(to, "<tr><td>%s</td><td class=\"n\">%.3g%s</td></tr>\n", what, scale * json_number_value(v), unit);
}

static void certificate_concepts(str *to, const json_t *c)
{
    const json_t *list = json_object_get(c, "concepts");

    str_add(to, "<table><tr><th>concept</th><th>words</th><th class=\"n\">rows</th><th class=\"n\">residual before</th>"
                "<th class=\"n\">after</th></tr>\n");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);
        str_add(to, "<tr><td>");
        report_add(to, report_text(p, "name"));
        str_add(to, "</td><td>");
        report_add(to, report_text(p, "words"));
        str_add(to, "</td><td class=\"n\">%d</td><td class=\"n\">%.2e</td><td class=\"n\">%.2e</td></tr>\n",
                (int)report_number(p, "rows"), report_number(p, "residual_before"), report_number(p, "residual_after"));
    }
    str_add(to, "</table>\n");
}

static void certificate_figures(str *to, const json_t *c)
{
    str_add(to, "<table>\n<tr><td>rank used</td><td class=\"n\">%d of %d</td></tr>\n", (int)report_number(c, "rank_used"),
            (int)report_number(c, "rank_available"));
    row(to, "drift on the captions", c, "drift", 100, " %");
    row(to, "drift on held-out captions", c, "drift_held_out", 100, " %");
    row(to, "drift of the worst matrix", c, "drift_worst", 100, " %");
    row(to, "condition of the target rows", c, "condition", 1, "");
    row(to, "condition of the captions", c, "caption_condition", 1, "");
    row(to, "constraint residual", c, "miss", 1, "");
    row(to, "KKT residual", c, "kkt_residual", 1, "");
    row(to, "ridge", c, "ridge", 1, "");
    str_add(to, "</table>\n");
}

/* Sums of shifts and words have nothing solved and no certificate. */
static void certificate_of(str *to, const report_result *x)
{
    json_t *c = x->c.certificate ? json_loads(x->c.certificate, 0, NULL) : NULL;

    str_add(to, "<h3>");
    report_add(to, x->name);
    str_add(to, "</h3>\n<p class=\"verdict\">");
    report_add(to, c ? report_text(c, "verdict") : "a sum: nothing was solved, so nothing is certified");
    str_add(to, "</p>\n");
    if (json_array_size(json_object_get(c, "concepts")) > 0) {
        str_add(to, "<div class=\"pair\">");
        certificate_concepts(to, c);
        certificate_figures(to, c);
        str_add(to, "</div>\n");
    }
    json_decref(c);
}

void report_certificates(str *to, const report *r)
{
    size_t before = to->n;

    for (int i = 0; i < r->n; i++)
        if (r->at[i].c.kind == CONCEPT_MERGED)
            certificate_of(to, &r->at[i]);
    if (to->n == before)
        str_add(to, "<p>Nothing has been merged in this farm.</p>\n");
}

/* ---- failures ---- */

static void failed_tries(str *to, const report *r)
{
    const json_t *list = json_object_get(r->story, "failures");
    size_t n = json_array_size(list), first = n > WORST ? n - WORST : 0;

    if (first > 0)
        str_add(to, "<p class=\"note\">The last %d of %zu failed tries.</p>\n", WORST, n);
    str_add(to, "<div class=\"scroll\" tabindex=\"0\"><table><tr><th>what</th><th class=\"n\">try</th><th "
                "class=\"n\">step</th><th>blamed</th><th>reason</th>"
                "<th>then</th></tr>\n");
    for (size_t i = first; i < n; i++) {
        const json_t *f = json_array_get(list, i);
        str_add(to, "<tr><td>");
        report_add(to, report_text(json_array_get(r->jobs, (size_t)report_number(f, "job")), "name"));
        str_add(to, "</td><td class=\"n\">%d</td><td class=\"n\">%d</td><td>", (int)report_number(f, "attempt"),
                (int)report_number(f, "step"));
        report_add(to, report_text(f, "blame"));
        str_add(to, "</td><td>");
        report_add(to, report_text(f, "text"));
        str_add(to, "</td><td>");
        report_add(to, report_text(f, "verdict"));
        str_add(to, "</td></tr>\n");
    }
    str_add(to, "</table></div>\n");
}

void report_failures(str *to, const report *r)
{
    bool any = false;

    for (size_t i = 0; i < json_array_size(r->jobs); i++) {
        const json_t *job = json_array_get(r->jobs, i);
        if (!report_text(job, "why")[0])
            continue;
        str_add(to, any ? "<br>" : "<p>");
        any = true;
        str_add(to, "<b>");
        report_add(to, report_text(job, "name"));
        str_add(to, "</b> is ");
        report_add(to, report_text(job, "state"));
        str_add(to, ": ");
        report_add(to, report_text(job, "why"));
    }
    if (any)
        str_add(to, "</p>\n");
    if (json_array_size(json_object_get(r->story, "failures")) > 0)
        failed_tries(to, r);
    else if (!any)
        str_add(to, "<p>Nothing has failed.</p>\n");
}

/* ---- settings ---- */

static void as_run(str *to, const report_result *x)
{
    str_add(to, "<details><summary>");
    report_add(to, x->name);
    str_add(to, "</summary><pre>");
    report_add(to, x->c.settings);
    str_add(to, "\n\n");
    report_add(to, x->c.recipe);
    str_add(to, "</pre></details>\n");
}

int report_settings(str *to, const report *r, err *e)
{
    char path[FS_PATH], *text;
    size_t n;

    TRY(fs_join(path, report_text(r->story, "dir"), "farm.yaml", e));
    TRY(fs_read(path, &text, &n, FARM_FILE_MOST, e));
    str_add(to, "<details><summary>The farm file as it was accepted</summary><pre>");
    report_add(to, text);
    str_add(to, "</pre></details>\n");
    free(text);
    for (int i = 0; i < r->n; i++)
        if (r->at[i].c.kind == CONCEPT_SINGLE)
            as_run(to, &r->at[i]);
    return 0;
}
