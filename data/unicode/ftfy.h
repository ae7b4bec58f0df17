#ifndef FTFY_H
#define FTFY_H
/* ftfy.fix_text of ftfy 6.3.1 with its default configuration: HTML entities, mojibake, ligatures, width, quotes, line
 * breaks, terminal escapes, control characters, NFC. Method: R. Speer, "ftfy", Zenodo 2591652 (2019).
 *
 * Each line is repaired until nothing changes. Texts can be built whose repair takes as many passes as they have
 * characters; *work (characters to be looked at, shared by the calls that spend from it) ends those: what is left
 * undone then stays. FTFY_WORK is beyond what any text of a few thousand characters can need. */
#include "data/unicode/utext.h"

enum { FTFY_WORK = 8 * 1000 * 1000 };
void ftfy_fix(utext *text, uint64_t *work);
#endif
