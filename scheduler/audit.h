#ifndef AUDIT_H
#define AUDIT_H
/* A farm held to what it promises, from outside: what its journal says is read by rules that stand here once more,
 * beside the farm's own mind, and held to its results, its orders, its log and its accounts. Nothing of the farm is
 * changed; it may be running.
 *
 * A law is broken by sentences that name what, where and against what. What is odd and breaks no law is a remark. */
#include "cluster/base/fs.h"
#include "scheduler/sched.h"

typedef enum {
    LAW_JOURNAL,
    LAW_ONCE,
    LAW_ENDS,
    LAW_SLOTS,
    LAW_BYTES,
    LAW_ORDERS,
    LAW_LOG,
    LAW_TIME,
    LAW_AGAIN,
    LAWS
} audit_law;

typedef struct {
    bool asked;     /* it was looked at */
    int64_t looked; /* at so many things */
    json_t *broken; /* sentences */
} audit_finding;

/* Of a job, as its records tell. */
typedef struct {
    char *name, *alike, *settings;
    json_t *needs;
    bool merge, hold, hold_ordered;
    job_state state; /* QUEUED: neither ended nor on hold */
    int attempt;
    bool open, wanted; /* the attempt has not answered; its answer still decides */
    int dones;
    int64_t bytes;
    char sha256[HASH_HEX], *why;
    int ordered[EV_DURABLE_END]; /* records by a command, by their type */
    int last_hold;               /* of audit_past.hold, the first of this attempt's; -1: none is known */
} audit_job;

/* A slot in an attempt's hands. */
typedef struct {
    int job, attempt, node, slot, next; /* next of the same attempt; -1: none */
    bool pack, sure;                    /* sure: it is held until the attempt's answer */
    bool ahead;        /* it comes next there: whoever has it has it still */
    bool over;
    int by;       /* the attempt that was given it meanwhile, of hold; -1: none */
    int64_t from; /* wall clock, ms */
} audit_hold;

typedef struct {
    int *hold, n;
} audit_place; /* who has it, as far as is known */

typedef struct {
    audit_job *job;
    int jobs;
    json_t *by_name;
    audit_hold *hold;
    int holds;
    audit_place *place; /* node * SLOTS_MOST + slot */
    int places;
    char **node; /* names, by the mind's number in this epoch */
    int nodes;
    int64_t records, starts, told; /* told: starts that say on which slots */
    int64_t epoch, epoch_ms;       /* the last one, and its time */
    int64_t first_ms;
    double worked; /* seconds that slots were surely held in the last epoch, packs aside */
    bool restated;
} audit_past;

typedef struct {
    const char *dir;
    bool running;
    audit_finding law[LAWS];
    json_t *remarks;
    audit_past past;
    sched *mind; /* the farm's own reading of the same records; NULL: it has refused one */
} audit;

void audit_breach(audit *a, audit_law law, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void audit_remark(audit *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* audit_past.c -- the journal: LAW_JOURNAL, LAW_ONCE, LAW_SLOTS. False: it cannot be read to its end, and is told. */
bool audit_journal(audit *a);
void audit_past_free(audit_past *p);
int audit_find(const audit_past *p, const char *name); /* -1: none */

/* audit_log.c -- the log, the orders and the accounts, against the journal: LAW_LOG, LAW_ORDERS, LAW_TIME */
void audit_log(audit *a);
void audit_orders(audit *a);
void audit_time(audit *a);

/* audit_again.c -- LAW_AGAIN: `most` of the concepts that are done, chosen by lot, are trained once more and compared
 */
void audit_again(audit *a, int most, uint64_t seed);
#endif
