#ifndef JOURNAL_H
#define JOURNAL_H
/* The farm's memory: an append-only log in DIR/journal, one segment per epoch (000001.log, 000002.log, ...), one
 * writer. It asks of the file system no more than that a synced file stays, and works on NFS and Lustre.
 *
 * Promises. What journal_commit() has answered for is read again, whole and in order. A log cut short at its end is a
 * crash: what was not committed is dropped, with a warning. One broken in the middle is damage: an error that names
 * file and offset, and nothing is repaired or skipped. A new epoch seals the old segment: what a coordinator that
 * should be dead still appends there is never read, and its next commit fails. The bytes are described in README.md. */
#include <stddef.h>
#include <stdint.h>

#include "cluster/base/err.h"

enum { JOURNAL_VERSION = 1, JOURNAL_HEAD = 48, JOURNAL_RECORD = 24, JOURNAL_MOST = 1 << 28 };

typedef struct journal journal;
/* One record of the past. A failure ends the reading and is the reader's own. */
typedef int journal_fn(void *arg, int type, const char *body, size_t n, err *e);

/* Reads every record there is, in order; the folder may be empty. Nothing is written. */
int journal_open(journal **out, const char *dir, journal_fn *each, void *arg, err *e);
/* One sentence about what a crash left behind, or NULL. */
const char *journal_warning(const journal *j);
size_t journal_records(const journal *j); /* read so far */
int64_t journal_epoch(const journal *j);  /* of the last segment; 0: none */

/* Begins the next epoch with a segment of its own. With a first record (NULL: none) that restates all that was before,
 * earlier segments are not read any more. Fails when another took the same epoch. */
int journal_start(journal *j, int type, const char *restated, size_t n, err *e);
/* Kept in memory until the commit; 0 < type < 65536. */
void journal_append(journal *j, int type, const char *body, size_t n);
/* Every appended record is on the disk when it returns 0. After a failure the journal takes nothing more: what the disk
 * holds is not known until it is opened again. */
int journal_commit(journal *j, err *e);
void journal_close(journal *j);
#endif
