/* The farm file against the ledger. */
#include "scheduler/intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"

/* ---- settings, and how they differ ---------------------------------------------------------------------------- */

/* A farm that was moved is the same farm: relative paths are looked up under the new root. */
static void without_root(json_t *settings) { json_object_del(settings, "root"); }

static void describe(const json_t *v, char *out, size_t room)
{
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : mem_text("not given");

    snprintf(out, room, "%s", text);
    free(text);
}

/* The first key, in the order of keys, whose values differ: "regularisation.images: \"a\" became \"b\"". */
static bool difference(const json_t *was, const json_t *is, const char *at, char *out, size_t room)
{
    json_t *both;
    const char *key;
    json_t *ignored;
    bool found = false;

    if (json_equal(was, is))
        return false;
    if (!json_is_object(was) || !json_is_object(is)) {
        char old[100], new[100];
        describe(was, old, sizeof old);
        describe(is, new, sizeof new);
        snprintf(out, room, "%s: %s became %s", at, old, new);
        return true;
    }
    both = json_copy((json_t *)(uintptr_t)was);
    json_object_update(both, (json_t *)(uintptr_t)is);
    json_object_foreach(both, key, ignored)
    {
        str path = {0};
        str_add(&path, "%s%s%s", at, *at ? "." : "", key);
        found = found || difference(json_object_get(was, key), json_object_get(is, key), path.at, out, room);
        str_free(&path);
    }
    json_decref(both);
    return found;
}

static json_t *concept_settings(const farm_concept *c)
{
    char *text, hex[HASH_HEX];
    json_t *o;

    farm_concept_json(c, &text, hex);
    o = json_loads(text, 0, NULL);
    free(text);
    return o;
}

static json_t *merge_settings(const farm_merge *m, const farmfile *f)
{
    char *text = m->settings ? cfg_json(m->settings) : NULL;
    json_t *o = text ? json_loads(text, 0, NULL) : json_object(), *of = json_array();

    for (size_t i = 0; i < m->of.n; i++)
        json_array_append_new(of, json_string(m->of.at[i]));
    json_object_set_new(o, "of", of);
    json_object_set_new(o, "base", json_string(f->base));
    json_object_set_new(o, "root", json_string(f->root));
    free(text);
    return o;
}

/* ---- comparing ------------------------------------------------------------------------------------------------ */

static void add(intake *i, intake_change c)
{
    i->at = mem_grow(i->at, i->n + 1, sizeof *i->at);
    i->at[i->n++] = c;
    i->trainings += c.kind == INTAKE_SUBMIT && c.concept;
}

/* settings: taken. */
typedef struct {
    job_spec spec;
    bool retry;
    json_t *settings;
    intake_change submit;
} wanted;

static bool same_but_root(const sched_job *j, const json_t *settings, char text[INTAKE_TEXT])
{
    json_t *was = json_loads(j->spec.settings, 0, NULL), *is = json_deep_copy(settings);
    bool differs;

    without_root(was);
    without_root(is);
    differs = difference(was, is, "", text, INTAKE_TEXT);
    json_decref(was);
    json_decref(is);
    return !differs;
}

static bool stuck(const sched_job *j)
{
    return j->state == JOB_QUARANTINED || j->state == JOB_REJECTED;
}

/* A word that a command has spoken about it is not the file's to take back. */
static bool other_wishes(const sched_job *j, const job_spec *p, char text[INTAKE_TEXT])
{
    bool priority = j->spec.priority != p->priority && !(j->ordered & ORDERED_PRIORITY);
    bool hold = p->hold && !j->spec.hold && !(j->ordered & ORDERED_HOLD);
    bool owner = strcmp(j->spec.owner, p->owner ? p->owner : "") != 0;

    snprintf(text, INTAKE_TEXT, "%s", priority ? "priority" : hold ? "hold" : "owner");
    return priority || hold || owner;
}

intake_answer intake_judge(const sched_job *j, const job_spec *p, char text[INTAKE_TEXT])
{
    json_t *settings;
    bool same;

    text[0] = '\0';
    if (!j)
        return INTAKE_NEW;
    if (j->spec.kind != p->kind)
        return INTAKE_OTHER_KIND;
    if (strcmp(j->spec.settings, p->settings) == 0 && (j->state == JOB_DONE || !other_wishes(j, p, text)))
        return INTAKE_SAME;
    settings = json_loads(p->settings, 0, NULL);
    same = same_but_root(j, settings, text);
    json_decref(settings);
    if (j->state == JOB_DONE)
        return same ? INTAKE_SAME : INTAKE_DONE_OTHERWISE;
    if (same && !other_wishes(j, p, text))
        snprintf(text, INTAKE_TEXT, "the folder of its paths");
    return sched_running(j) || j->node >= 0 ? INTAKE_RUNS : INTAKE_CHANGED;
}

static int compare_known(intake *out, int at, const sched_job *j, const wanted *w, err *e)
{
    char text[INTAKE_TEXT];
    intake_answer is = intake_judge(j, &w->spec, text);

    if (is == INTAKE_OTHER_KIND)
        return err_set(e, ERR_INPUT, "%s was a %s before and is a %s now; give it another name", w->spec.name,
                       job_kind_name(j->spec.kind), job_kind_name(w->spec.kind));
    if (is == INTAKE_DONE_OTHERWISE)
        return err_set(e, ERR_INPUT, "%s is done, and its settings changed (%s); put them back, or give it another name",
                       w->spec.name, text);
    if (j->state == JOB_DONE || (j->ordered & ORDERED_CANCEL))
        return 0;
    if (is != INTAKE_SAME)
        add(out, w->submit);
    else if (j->state == JOB_CANCELLED || (stuck(j) && w->retry) ||
             (j->spec.hold && !w->spec.hold && !(j->ordered & ORDERED_HOLD)))
        add(out, (intake_change){.kind = INTAKE_RELEASE, .job = at});
    return 0;
}

static char *spec_settings(const wanted *w) { return json_dumps(w->settings, JSON_COMPACT | JSON_SORT_KEYS); }

static void wanted_free(wanted *w)
{
    free((char *)(uintptr_t)w->spec.settings);
    json_decref(w->settings);
}

static int compare_one(intake *out, const ledger *l, wanted w, err *e)
{
    int at = sched_find(l->s, w.spec.name), rc = 0;

    w.spec.settings = spec_settings(&w);
    if (at < 0)
        add(out, w.submit);
    else
        rc = compare_known(out, at, &l->s->job[at], &w, e);
    wanted_free(&w);
    return rc;
}

static wanted want_concept(const farm_concept *c)
{
    job_spec p = {.name = c->name, .kind = JOB_TRAIN, .priority = (job_priority)c->priority, .hold = c->hold,
                  .owner = c->owner};

    return (wanted){.spec = p, .settings = concept_settings(c), .submit = {.kind = INTAKE_SUBMIT, .concept = c}};
}

static wanted want_merge(const farmfile *f, const farm_merge *m)
{
    job_spec p = {.name = m->name, .kind = JOB_MERGE, .priority = PRIORITY_NORMAL, .owner = ""};

    return (wanted){.spec = p, .settings = merge_settings(m, f), .submit = {.kind = INTAKE_SUBMIT, .merge = m}};
}

static bool asked_for(const farmfile *f, const char *name)
{
    for (size_t i = 0; i < f->merge_count; i++)
        if (strcmp(f->merges[i].name, name) == 0)
            return true;
    return farm_find(f, name) != NULL;
}

int intake_compare(intake *out, const ledger *l, const farmfile *f, bool retry, err *e)
{
    int rc = 0;

    *out = (intake){0};
    for (size_t i = 0; i < f->concept_count + f->merge_count && rc == 0; i++) {
        size_t n = f->concept_count;
        wanted w = i < n ? want_concept(&f->concepts[i]) : want_merge(f, &f->merges[i - n]);
        w.retry = retry;
        rc = compare_one(out, l, w, e);
    }
    for (int i = 0; i < l->s->jobs && rc == 0; i++) {
        const sched_job *j = &l->s->job[i];
        if (j->state != JOB_DONE && j->state != JOB_CANCELLED && !j->spec.added && !asked_for(f, j->spec.name))
            add(out, (intake_change){.kind = INTAKE_CANCEL, .job = i});
    }
    if (rc != 0)
        intake_free(out);
    return rc;
}

/* ---- a piece -------------------------------------------------------------------------------------------------- */

static void refuse(intake_tell *tell, void *arg, const wanted *w, intake_answer is, const char *difference)
{
    char text[2 * INTAKE_TEXT];
    const char *kind = job_kind_name(w->spec.kind);

    if (is == INTAKE_OTHER_KIND)
        snprintf(text, sizeof text, "something else than a %s has that name", kind);
    else if (is == INTAKE_RUNS)
        snprintf(text, sizeof text, "it is being made, and %s differs; cancel it first", difference);
    else
        snprintf(text, sizeof text, "it is done, and its settings changed (%s); give it another name", difference);
    tell(arg, w->spec.name, is, text);
}

static void compare_piece_one(intake *out, const ledger *l, wanted w, intake_tell *tell, void *arg)
{
    int at = sched_find(l->s, w.spec.name);
    const sched_job *j = at >= 0 ? &l->s->job[at] : NULL;
    char text[INTAKE_TEXT];
    intake_answer is;

    w.spec.settings = spec_settings(&w);
    is = intake_judge(j, &w.spec, text);
    if (is == INTAKE_SAME && j->state == JOB_CANCELLED) /* who adds it again wants it after all */
        is = INTAKE_CHANGED;
    if (is == INTAKE_NEW || is == INTAKE_CHANGED)
        add(out, w.submit);
    else if (is == INTAKE_SAME)
        tell(arg, w.spec.name, is, job_state_name(j->state));
    else
        refuse(tell, arg, &w, is, text);
    wanted_free(&w);
}

/* What it needs must be in the piece, or in the farm already. */
static int check_needs(const ledger *l, const farmfile *piece, const char *name, const cfg_texts *needs, bool files, err *e)
{
    for (size_t i = 0; i < needs->n; i++) {
        bool file = files && (strchr(needs->at[i], '/') || str_ends(needs->at[i], ".h5"));
        if (!file && !asked_for(piece, needs->at[i]) && sched_find(l->s, needs->at[i]) < 0)
            return err_set(e, ERR_INPUT, "%s needs %s, which is neither in the farm nor in this piece", name, needs->at[i]);
    }
    return 0;
}

int intake_compare_piece(intake *out, const ledger *l, const farmfile *piece, intake_tell *tell, void *arg, err *e)
{
    *out = (intake){0};
    for (size_t i = 0; i < piece->concept_count; i++)
        TRY(check_needs(l, piece, piece->concepts[i].name, &piece->concepts[i].depends, false, e));
    for (size_t i = 0; i < piece->merge_count; i++)
        TRY(check_needs(l, piece, piece->merges[i].name, &piece->merges[i].of, true, e));
    for (size_t i = 0; i < piece->concept_count; i++)
        compare_piece_one(out, l, want_concept(&piece->concepts[i]), tell, arg);
    for (size_t i = 0; i < piece->merge_count; i++)
        compare_piece_one(out, l, want_merge(piece, &piece->merges[i]), tell, arg);
    return 0;
}

void intake_free(intake *i)
{
    free(i->at);
    *i = (intake){0};
}

/* ---- applying ------------------------------------------------------------------------------------------------- */

/* The check's list by name: 10,000 concepts are not looked for 10,000 times. */
static json_t *index_checked(const json_t *checked)
{
    const json_t *list = json_object_get(checked, "concepts");
    json_t *by_name = json_object();

    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *o = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(o, "name"));
        if (name)
            json_object_set(by_name, name, o);
    }
    return by_name;
}

static int find_checked(const json_t *by_name, const char *name, job_spec *p, err *e)
{
    const json_t *o = json_object_get(by_name, name);
    int64_t leaves;

    if (!o)
        return err_set(e, ERR_PEER, "the worker's check does not know it");
    TRY(json_get_int(o, "steps", 0, INT32_MAX, &p->steps, e));
    TRY(json_get_int(o, "batch", 1, INT32_MAX, &p->batch, e));
    TRY(json_get_int(o, "leaves", 1, 1 << 20, &leaves, e));
    p->leaves = (int)leaves;
    return json_opt_text(o, "alike", "", &p->alike, e);
}

/* Is it a job: of this file, or, for a piece, of the farm it comes to? A path is a file that exists already. */
static bool is_job(const ledger *l, const farmfile *f, const char *name)
{
    return asked_for(f, name) || (f->piece && sched_find(l->s, name) >= 0);
}

static json_t *needs_of(const ledger *l, const farmfile *f, const cfg_texts *names)
{
    json_t *needs = json_array();

    for (size_t i = 0; i < names->n; i++)
        if (is_job(l, f, names->at[i]))
            json_array_append_new(needs, json_string(names->at[i]));
    return needs;
}

static int submit(ledger *l, job_spec *p, json_t *settings, json_t *needs, err *e)
{
    char *text = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS);
    sched_effects todo = {0};
    sched_event ev = {.type = EV_SUBMIT};
    int rc;

    p->settings = text;
    p->needs = needs;
    ev.spec = *p;
    rc = ledger_step(l, &ev, &todo, e);
    sched_effects_free(&todo);
    free(text);
    json_decref(settings);
    json_decref(needs);
    return rc;
}

static int submit_change(ledger *l, const intake_change *c, const farmfile *f, const json_t *by_name, err *e)
{
    job_spec p = {.retries = (int)f->limits.retries, .leaves = 1, .priority = PRIORITY_NORMAL, .batch = 1,
                  .added = f->piece};

    if (c->merge) {
        p.kind = JOB_MERGE;
        p.name = c->merge->name;
        return submit(l, &p, merge_settings(c->merge, f), needs_of(l, f, &c->merge->of), e);
    }
    p.name = c->concept->name;
    p.priority = (job_priority)c->concept->priority;
    p.hold = c->concept->hold;
    p.owner = c->concept->owner;
    if (find_checked(by_name, p.name, &p, e) != 0)
        return err_wrap(e, "concept %s", p.name);
    return submit(l, &p, concept_settings(c->concept), needs_of(l, f, &c->concept->depends), e);
}

static int apply(ledger *l, const intake_change *c, const farmfile *f, const json_t *by_name, err *e)
{
    sched_event ev = {.type = c->kind == INTAKE_RELEASE ? EV_RELEASE : EV_CANCEL, .job = c->job};
    sched_effects todo = {0};
    int rc;

    if (c->kind == INTAKE_SUBMIT)
        return submit_change(l, c, f, by_name, e);
    rc = ledger_step(l, &ev, &todo, e);
    sched_effects_free(&todo);
    return rc;
}

static bool needs_are_there(const ledger *l, const intake_change *c, const farmfile *f)
{
    if (c->kind != INTAKE_SUBMIT) /* and so without a concept or a merge */
        return true;

    const cfg_texts *names = c->merge ? &c->merge->of : &c->concept->depends;

    for (size_t i = 0; i < names->n; i++)
        if (asked_for(f, names->at[i]) && sched_find(l->s, names->at[i]) < 0)
            return false;
    return true;
}

/* Nobody before those he needs: rounds over what is left, until a round brings nothing (the farm file has no
 * circles). */
int intake_apply(const intake *in, ledger *l, const farmfile *f, const json_t *checked, err *e)
{
    json_t *by_name = index_checked(checked);
    bool *applied = NEW_N(bool, in->n + 1);
    size_t left = in->n, before = left + 1;
    int rc = 0;

    while (left > 0 && left < before && rc == 0) {
        before = left;
        for (size_t i = 0; i < in->n && rc == 0; i++) {
            if (applied[i] || !needs_are_there(l, &in->at[i], f))
                continue;
            rc = apply(l, &in->at[i], f, by_name, e);
            applied[i] = true;
            left--;
        }
    }
    free(applied);
    json_decref(by_name);
    if (rc == 0 && left > 0)
        return err_set(e, ERR_INPUT, "%zu concepts wait for each other in a circle", left);
    return rc;
}
