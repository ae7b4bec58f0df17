#ifndef REG_GATHER_H
#define REG_GATHER_H
/* Captioned pictures of a collection, for an index. Given is
 *
 *   a folder     its pictures with X.txt or X.json beside X.jpg, its .tar archives, and the same of folders below it
 *   a TSV        lines of a path (relative to the list's folder), a tab and the caption
 *   a .tar       a webdataset: members that share a name up to its first dot, one behind the other, are one sample
 *
 * A JSON file's caption is its "caption", else its "text". Blanks are joined. A picture without a caption, or whose
 * caption is no UTF-8 or longer than a file of captions should hold, is left out and counted: one of a million is no
 * reason to stop; a damaged archive is. */
#include "data/reg_index.h"

enum { REG_CAPTION_MOST = 1 << 14, REG_JSON_MOST = 1 << 20, REG_DEPTH_MOST = 16 };
typedef struct {
    reg_entry *at;
    size_t n, room;
    size_t without, unreadable,
        missing; /* left out: no caption; one that is no text; a TSV's picture that is not there */
    char **own;                          /* what the entries' texts point to */
    size_t owned, own_room;
} reg_gathered;

int reg_gather(reg_gathered *out, const char *given, err *e); /* appends */
void reg_gathered_free(reg_gathered *g);
#endif
