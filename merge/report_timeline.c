/* Who trained where and when: a row for each lane of each node, a bar for each try. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/mem.h"
#include "merge/report.h"

enum { WIDE = 960, LEFT = 120, ROW = 22, BAR = 16, BOTTOM = 26, RUNS_MOST = 4000, LETTER = 7, TICKS = 8 };

typedef struct {
    const json_t *runs, *nodes, *jobs;
    size_t first;        /* of the runs: only the last RUNS_MOST are drawn */
    double from, to;     /* ms */
    int *lanes, *above;  /* [nodes]: lanes of each, and those of the nodes before it */
    int rows;
} timeline;

static double ms_of(const json_t *run, const char *key)
{
    return (double)json_integer_value(json_object_get(run, key));
}

static int whole_of(const json_t *run, const char *key)
{
    return (int)json_integer_value(json_object_get(run, key));
}

static void measure(timeline *t)
{
    size_t n = json_array_size(t->runs), nodes = json_array_size(t->nodes);

    t->first = n > RUNS_MOST ? n - RUNS_MOST : 0;
    t->from = INFINITY;
    t->lanes = NEW_N(int, nodes + 1);
    t->above = NEW_N(int, nodes + 1);
    for (size_t i = t->first; i < n; i++) {
        const json_t *run = json_array_get(t->runs, i);
        int node = whole_of(run, "node"), need = whole_of(run, "lane") + whole_of(run, "gang");
        t->from = fmin(t->from, ms_of(run, "from"));
        t->to = fmax(t->to, ms_of(run, "to"));
        t->lanes[node] = need > t->lanes[node] ? need : t->lanes[node];
    }
    for (size_t i = 0; i < nodes; i++) {
        t->above[i] = t->rows;
        t->rows += t->lanes[i];
    }
    t->to = fmax(t->to, t->from + 1);
}

static double across(const timeline *t, double ms)
{
    return LEFT + (ms - t->from) / (t->to - t->from) * (WIDE - LEFT - 4);
}

/* ---- the axis ---- */

/* The smallest of the steps people count time in that gives few enough ticks. */
static double tick_of(double seconds)
{
    static const double steps[] = {0.01, 0.05, 0.1, 0.5, 1,    2,    5,    10,    15,    30,   60,
                                   120,  300,  600, 900, 1800, 3600, 7200, 14400, 43200, 86400};
    const size_t n = sizeof steps / sizeof *steps;

    for (size_t i = 0; i < n; i++)
        if (seconds / steps[i] <= TICKS)
            return steps[i];
    return steps[n - 1] * ceil(seconds / steps[n - 1] / TICKS);
}

static void axis(str *to, const timeline *t, int high)
{
    double seconds = (t->to - t->from) / 1000, tick = tick_of(seconds);

    for (int i = 0; i * tick <= seconds; i++) {
        double x = across(t, t->from + 1000 * i * tick);
        str_add(to, "<path class=\"tick\" d=\"M%.1f 0V%d\"/><text x=\"%.1f\" y=\"%d\">", x, high - BOTTOM, x, high - 8);
        if (i == 0)
            str_add(to, "0");
        else
            report_seconds(to, i * tick);
        str_add(to, "</text>");
    }
}

static void node_names(str *to, const timeline *t)
{
    for (size_t i = 0; i < json_array_size(t->nodes); i++) {
        const char *name = json_string_value(json_array_get(t->nodes, i));
        if (t->lanes[i] == 0)
            continue;
        str_add(to, "<text class=\"node\" x=\"0\" y=\"%d\">", t->above[i] * ROW + 14);
        report_add(to, strcmp(name, "coordinator") == 0 ? "merges" : name);
        str_add(to, "</text>");
    }
}

/* ---- bars ---- */

static const char *job_name(const timeline *t, const json_t *run)
{
    return report_text(json_array_get(t->jobs, (size_t)whole_of(run, "job")), "name");
}

static void tell_run(str *to, const timeline *t, const json_t *run)
{
    report_add(to, job_name(t, run));
    str_add(to, ", try %d, ", whole_of(run, "attempt"));
    report_seconds(to, (ms_of(run, "to") - ms_of(run, "from")) / 1000);
    str_add(to, ", ");
    report_add(to, report_text(run, "end"));
}

static void bar(str *to, const timeline *t, const json_t *run)
{
    double x = across(t, ms_of(run, "from")), wide = fmax(1.5, across(t, ms_of(run, "to")) - x);
    int gang = whole_of(run, "gang"), y = (t->above[whole_of(run, "node")] + whole_of(run, "lane")) * ROW;
    const char *name = job_name(t, run);
    int room = (int)(wide / LETTER) - 1;

    str_add(to, "<g class=\"bar ");
    report_add(to, report_text(run, "end"));
    str_add(to, "\"><title>");
    tell_run(to, t, run);
    str_add(to, "</title><rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>", x, y, wide, (gang - 1) * ROW + BAR);
    if (room >= (int)strlen(name)) {
        str_add(to, "<text x=\"%.1f\" y=\"%d\">", x + 5, y + 12);
        report_add(to, name);
        str_add(to, "</text>");
    }
    str_add(to, "</g>\n");
}

static void table(str *to, const timeline *t)
{
    char began[32];

    clock_iso(began, (int64_t)t->from);
    str_add(to,
            "<details><summary>The same as a list (it began at %s)</summary><div class=\"scroll\" "
            "tabindex=\"0\"><table><tr><th>what</th><th>try</th><th>where</th>"
            "<th class=\"n\">from</th><th class=\"n\">took</th><th>end</th></tr>\n",
            began);
    for (size_t i = t->first; i < json_array_size(t->runs); i++) {
        const json_t *run = json_array_get(t->runs, i);
        str_add(to, "<tr><td>");
        report_add(to, job_name(t, run));
        str_add(to, "</td><td>%d</td><td>", whole_of(run, "attempt"));
        report_add(to, json_string_value(json_array_get(t->nodes, (size_t)whole_of(run, "node"))));
        str_add(to, "</td><td class=\"n\">");
        report_seconds(to, (ms_of(run, "from") - t->from) / 1000);
        str_add(to, "</td><td class=\"n\">");
        report_seconds(to, (ms_of(run, "to") - ms_of(run, "from")) / 1000);
        str_add(to, "</td><td>");
        report_add(to, report_text(run, "end"));
        str_add(to, "</td></tr>\n");
    }
    str_add(to, "</table></div></details>\n");
}

static void draw(str *to, const timeline *t)
{
    int high = t->rows * ROW + BOTTOM;

    str_add(to, "<figure class=\"timeline\"><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"what ran where and when\">",
            WIDE, high);
    axis(to, t, high);
    node_names(to, t);
    for (size_t i = t->first; i < json_array_size(t->runs); i++)
        bar(to, t, json_array_get(t->runs, i));
    str_add(to, "</svg></figure>\n");
    table(to, t);
}

void report_timeline(str *to, const report *r)
{
    timeline t = {.runs = json_object_get(r->story, "runs"), .nodes = json_object_get(r->story, "nodes"), .jobs = r->jobs};

    if (json_is_true(json_object_get(r->story, "restated")))
        str_add(to, "<p class=\"note\">The journal was restated; what ran before that is not in it.</p>\n");
    if (json_array_size(t.runs) == 0) {
        str_add(to, "<p>Nothing has been started yet.</p>\n");
        return;
    }
    measure(&t);
    if (t.first > 0)
        str_add(to, "<p class=\"note\">Only the last %d of %zu tries are drawn.</p>\n", RUNS_MOST, json_array_size(t.runs));
    draw(to, &t);
    free(t.lanes);
    free(t.above);
}
