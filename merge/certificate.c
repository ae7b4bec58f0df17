#include "merge/certificate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"

static const double MET = 1e-4;   /* a concept whose rows are missed by less says what it said alone */
static const double SMALL = 0.10; /* a drift nobody sees in pictures */

void certificate_free(certificate *c)
{
    for (int i = 0; i < c->n; i++) {
        free(c->concept[i].name);
        free(c->concept[i].words);
    }
    for (int i = 0; i < c->n_shared; i++)
        free(c->shared[i]);
    free(c->shared);
    free(c->nearest);
    free(c->concept);
    free(c->worst);
    free(c->moved);
    *c = (certificate){0};
}

/* ---- the verdict ---- */

static const certificate_concept *worst_concept(const certificate *c)
{
    const certificate_concept *worst = &c->concept[0];
    for (int i = 1; i < c->n; i++)
        if (c->concept[i].after > worst->after)
    worst = &c->concept[i];
    return worst;
}

static bool is_bad(double x)
{
    return !(x >= 0 && x < INFINITY);
}

static int refuse(const certificate *c, bool accept_drift, err *e)
{
    const certificate_concept *worst = worst_concept(c);
    if (is_bad(c->drift) || is_bad(worst->after))
        return err_set(e, ERR_INPUT, "the solution is not finite; nothing is written");
    if (c->reason == LSQ_SOLVED && worst->after > MET)
        return err_set(e, ERR_INPUT,
                       "%s would be missed by %.2g of what it says (the target rows' condition is %.2g); "
                       "merge fewer concepts, or --relax ridge",
                       worst->name, worst->after, c->condition);
    if (c->drift > 1 && !accept_drift)
        return err_set(e, ERR_INPUT,
                       "the merge would change the base model's other words by %.0f %% (%d of %d dimensions "
                       "are spoken for); merge fewer concepts, --relax ridge, or --accept-drift",
                       100 * c->drift, c->used, c->available);
    return 0;
}

static int judge_bank(certificate *c)
{
    snprintf(c->verdict, sizeof c->verdict,
             "bank: each of %d concepts says what it said alone (to %.1g) where its words stand; prompts without them are "
             "the base's own (the concepts alone drift by at most %.2g %%)",
             c->n, worst_concept(c)->after, 100 * c->drift_worst);
    return 0;
}

int certificate_judge(certificate *c, bool accept_drift, err *e)
{
    const certificate_concept *worst = worst_concept(c);
    const char *base = c->drift <= SMALL ? "keeps its other words" : "changes in its other words";
    char room[80] = "";
    TRY(refuse(c, accept_drift, e));
    if (c->bank)
        return judge_bank(c);
    if (4 * c->used >
        3 * c->available) /* what is left to minimise over is little: the next concept may be one too many */
        snprintf(room, sizeof room, "; %d of %d dimensions are spoken for", c->used, c->available);
    if (worst->after <= MET)
        snprintf(c->verdict, sizeof c->verdict,
                 "%s: every concept says what it said alone (to %.1g); the base %s (drift "
                 "%.2g %%)%s",
                 c->drift <= SMALL ? "clean" : "exact, with drift", worst->after, base, 100 * c->drift, room);
    else
        snprintf(c->verdict, sizeof c->verdict,
                 "relaxed: %s is missed by %.2g %% of what it says (%.2g %% before "
                 "merging); the base %s (drift %.2g %%)%s",
                 worst->name, 100 * worst->after, 100 * worst->before, base, 100 * c->drift, room);
    return 0;
}

/* ---- as JSON ---- */

static json_t *real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *json_of_concept(const certificate_concept *p)
{
    return json_pack("{s:s s:s s:i s:i s:o s:o}", "name", p->name, "words", p->words, "rows", p->rows, "shared",
                     p->shared, "residual_before", real(p->before), "residual_after", real(p->after));
}

char *certificate_json(const certificate *c)
{
    json_t *list = json_array(), *shared = json_array(), *o;
    char *text;
    for (int i = 0; i < c->n_shared; i++)
        json_array_append_new(shared, json_string(c->shared[i]));
    for (int i = 0; i < c->n; i++)
        json_array_append_new(list, json_of_concept(&c->concept[i]));
    o = json_pack("{s:s s:o s:s s:s s:i s:i s:o s:o s:o s:o s:o s:o s:o s:o s:o s:s s:i s:i s:o s:s? s:o}", "verdict", c->verdict,
                  "concepts", list, "solve", c->bank ? "bank" : c->reason == LSQ_RIDGED ? "ridge" : "exact", "bos",
                  c->bos_fixed ? "fixed" : "free", "rank_used", c->used, "rank_available", c->available, "condition",
                  real(c->condition), "caption_condition", real(c->caption_condition), "miss", real(c->miss),
                  "kkt_residual", c->reason == LSQ_SOLVED ? real(c->kkt) : json_null(), "ridge", real(c->ridge),
                  "drift", real(c->drift), "drift_doubt", real(c->drift_doubt), "drift_held_out",
                  c->drift_held < 0 ? json_null() : real(c->drift_held),
                  "drift_worst", real(c->drift_worst), "drift_worst_matrix", c->worst ? c->worst : "", "captions",
                  c->captions, "captions_held_out", c->held, "shared_rows", shared, "nearest_row", c->nearest, "nearest_row_own",
                  c->nearest ? real(c->own) : json_null());
    CHECK(o);
    text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(o);
    return text;
}

/* ---- as a table ---- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void show_number(FILE *to, const char *what, const json_t *o, const char *key, const char *unit, double scale)
{
    const json_t *v = json_object_get(o, key);
    if (json_is_number(v) && json_number_value(v) != 0)
        fprintf(to, "  %-34s %.3g%s\n", what, scale * json_number_value(v), unit);
}

static void show_rows(FILE *to, const json_t *c)
{
    enum { TOLD = 4 };
    const json_t *shared = json_object_get(c, "shared_rows"), *row;
    size_t i, n = json_array_size(shared);
    json_array_foreach(shared, i, row) if (i < TOLD) fprintf(to, "  shared: %s\n", json_string_value(row));
    if (n > TOLD)
        fprintf(to, "  shared: %zu rows more\n", n - TOLD);
    if (text_of(c, "nearest_row")[0])
        fprintf(to, "  nearest to the others: %.3g %% of %s is its own\n",
                100 * json_number_value(json_object_get(c, "nearest_row_own")), text_of(c, "nearest_row"));
}

void certificate_show(FILE *to, const json_t *c)
{
    const json_t *list = json_object_get(c, "concepts"), *p;
    size_t i;
    fprintf(to, "%s\n", text_of(c, "verdict"));
    fprintf(to, "  %-24s %-24s %5s %7s %10s %10s\n", "concept", "words", "rows", "shared", "before", "after");
    json_array_foreach(list, i, p) fprintf(to, "  %-24s %-24s %5d %7d %10.2e %10.2e\n", text_of(p, "name"),
                                           text_of(p, "words"), (int)json_integer_value(json_object_get(p, "rows")),
                                           (int)json_integer_value(json_object_get(p, "shared")),
                                           json_number_value(json_object_get(p, "residual_before")),
                                           json_number_value(json_object_get(p, "residual_after")));
    show_rows(to, c);
    fprintf(to, "  %-34s %d of %d\n", "rank used", (int)json_integer_value(json_object_get(c, "rank_used")),
            (int)json_integer_value(json_object_get(c, "rank_available")));
    show_number(to, "drift on the captions", c, "drift", " %", 100);
    show_number(to, "give or take", c, "drift_doubt", " %", 100);
    show_number(to, "drift on held-out captions", c, "drift_held_out", " %", 100);
    show_number(to, "drift of the worst matrix", c, "drift_worst", " %", 100);
    show_number(to, "condition of the target rows", c, "condition", "", 1);
    show_number(to, "condition of the captions", c, "caption_condition", "", 1);
    show_number(to, "constraint residual", c, "miss", "", 1);
    show_number(to, "KKT residual", c, "kkt_residual", "", 1);
    show_number(to, "ridge", c, "ridge", "", 1);
    fprintf(to, "  %-34s %s\n", "first token", text_of(c, "bos"));
}
