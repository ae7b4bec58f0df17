#ifndef REPORT_H
#define REPORT_H
/* A farm as one page: what `cfarm report` shows. The farm's history comes as JSON (scheduler/story.c), what it made is read from
 * its files; every piece below appends its part of the page, text escaped, and the page fetches nothing from anywhere. */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/json.h"
#include "cluster/base/log.h"
#include "cluster/base/str.h"
#include "configs/cfg.h"
#include "data/concept.h"
#include "trainer/eval/eval.h"

typedef struct {
    const char *story, *out, *model, *prompts, *cache;
    cfg_texts prompt;
    bool pictures;
    int steps, count, most, pairs;
    double guidance;
    int64_t seed;
} report_cfg;

/* A result of the farm: a concept or merged file that is there. */
typedef struct {
    const json_t *job;
    const char *name;
    char *path;
    concept c;        /* history, factors, sources; no tensors */
    eval_words words; /* its subjects: "<rex> dog", "dog" */
} report_result;

typedef struct {
    const report_cfg *set;
    const json_t *story, *jobs; /* jobs: story's */
    report_result *at;          /* [n], in the order of the jobs */
    int n, left_out;            /* results beyond set->most are counted and not shown */
    logger *log;
} report;

/* ---- report_curves.c, report_timeline.c, report_tables.c, report_pictures.c ---- */

void report_curves(str *to, const report *r);
void report_timeline(str *to, const report *r);
void report_lede(str *to, const report *r);         /* how it went, in a sentence or two */
void report_facts(str *to, const report *r);
void report_certificates(str *to, const report *r);
void report_failures(str *to, const report *r);
int report_settings(str *to, const report *r, err *e);
/* Grids, made or taken from where an earlier report kept them; pairs: of them, for the blind test, as JSON ("[]": none). */
int report_pictures(str *to, str *pairs, const report *r, err *e);

/* ---- shared ---- */

const char *report_text(const json_t *o, const char *key); /* "" where there is none */
double report_number(const json_t *o, const char *key);
void report_add(str *to, const char *text);                /* escaped */
void report_seconds(str *to, double seconds);              /* "5.6 s", "2 h 3 min" */
bool report_is_merge(const json_t *job);
#endif
