/* Loss curves, a small figure for each concept: what each step said, its mean over a tenth of the training, and the fixed draws
 * before and after where the farm asked for them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "merge/report.h"

enum { WIDE = 320, HIGH = 130, LEFT = 38, RIGHT = 6, TOP = 8, BOTTOM = 18, POINTS_MOST = 400 };

typedef struct {
    const float *y;
    int n;
    double low, high;
} curve;

static double across(const curve *c, double step)
{
    return LEFT + step / (c->n > 1 ? c->n - 1 : 1) * (WIDE - LEFT - RIGHT);
}

static double down(const curve *c, double loss)
{
    return TOP + (c->high - loss) / (c->high - c->low) * (HIGH - TOP - BOTTOM);
}

/* "on the fixed draws 1.41 before and 1.28 after", as the worker says it (trainer/worker.c). */
static bool fixed_draws(double at[2], const char *said)
{
    const char *from = strstr(said, "on the fixed draws ");

    return from && sscanf(from, "on the fixed draws %lf before and %lf after", &at[0], &at[1]) == 2;
}

static void reach(curve *c, double y)
{
    if (!isfinite(y))
        return;
    c->low = fmin(c->low, y);
    c->high = fmax(c->high, y);
}

/* Room above and below, so that a flat line is in the middle. */
static void fit_range(curve *c, const double *fixed, bool has_fixed)
{
    c->low = INFINITY;
    c->high = -INFINITY;
    for (int i = 0; i < c->n; i++)
        reach(c, (double)c->y[i]);
    for (int i = 0; i < 2 && has_fixed; i++)
        reach(c, fixed[i]);
    if (c->low > c->high)
        c->low = c->high = 0;
    double room = 0.05 * (c->high - c->low) + 1e-6 * (1 + fabs(c->high));
    c->low -= room;
    c->high += room;
}

/* Means of as many steps each as keep the figure small; half > 0: of the steps around each, the smooth line. */
static void line(str *to, const curve *c, const char *class, int half)
{
    int stride = (c->n + POINTS_MOST - 1) / POINTS_MOST;

    str_add(to, "<polyline class=\"%s\" points=\"", class);
    for (int i = 0; i < c->n; i += stride) {
        int from = half ? i - half : i, until = half ? i + half + 1 : i + stride, counted = 0;
        double sum = 0;
        for (int k = from < 0 ? 0 : from; k < until && k < c->n; k++)
            if (isfinite(c->y[k])) {
                sum += (double)c->y[k];
                counted++;
            }
        if (counted)
            str_add(to, "%.1f,%.1f ", across(c, fmin(half ? i : i + 0.5 * (stride - 1), c->n - 1)), down(c, sum / counted));
    }
    str_add(to, "\"/>");
}

static void axes(str *to, const curve *c)
{
    str_add(to, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>", LEFT, TOP, HIGH - BOTTOM, WIDE - RIGHT);
    str_add(to, "<text x=\"%d\" y=\"%d\" class=\"end\">%.3g</text><text x=\"%d\" y=\"%d\" class=\"end\">%.3g</text>", LEFT - 5,
            TOP + 8, c->high, LEFT - 5, HIGH - BOTTOM, c->low);
    str_add(to, "<text x=\"%d\" y=\"%d\">1</text><text x=\"%d\" y=\"%d\" class=\"end\">step %d</text>", LEFT, HIGH - 4,
            WIDE - RIGHT, HIGH - 4, c->n);
}

static void figure(str *to, const report_result *x)
{
    curve c = {.y = x->c.history.loss, .n = x->c.history.n};
    const char *said = report_text(x->job, "said");
    double fixed[2];
    bool has_fixed = fixed_draws(fixed, said);

    fit_range(&c, fixed, has_fixed);
    str_add(to, "<figure class=\"curve\"><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"loss of ", WIDE, HIGH);
    report_add(to, x->name);
    str_add(to, " over %d steps\">", c.n);
    axes(to, &c);
    line(to, &c, "raw", 0);
    line(to, &c, "smooth", c.n / 20 > 0 ? c.n / 20 : 1);
    for (int i = 0; i < 2 && has_fixed; i++)
        str_add(to, "<circle class=\"fixed\" r=\"3.5\" cx=\"%.1f\" cy=\"%.1f\"><title>fixed draws, %s: %.6g</title></circle>",
                across(&c, i ? c.n - 1 : 0), down(&c, fixed[i]), i ? "after" : "before", fixed[i]);
    str_add(to, "</svg><figcaption><b>");
    report_add(to, x->name);
    str_add(to, "</b> ");
    report_add(to, said);
    str_add(to, "</figcaption></figure>\n");
}

void report_curves(str *to, const report *r)
{
    int shown = 0;

    for (int i = 0; i < r->n; i++)
        if (r->at[i].c.history.n > 0) {
            figure(to, &r->at[i]);
            shown++;
        }
    if (shown == 0)
        str_add(to, "<p>No concept is done yet.</p>\n");
    if (r->left_out > 0)
        str_add(to, "<p class=\"note\">%d more results are done and not shown; --most shows more.</p>\n", r->left_out);
}
