#ifndef FTFY_IMPL_H
#define FTFY_IMPL_H
/* What the parts of ftfy.h share: classes of characters, code pages, entities. */
#include "data/unicode/utext.h"

/* Classes of characters that occur in mojibake (ftfy 6.3.1, badness and chardata), then classes of patterns. */
enum {
    COMMON = 1 << 0,        /* in many contexts */
    C1 = 1 << 1,            /* U+0080 to U+009F */
    BAD = 1 << 2,           /* hardly anywhere else */
    LAW = 1 << 3,
    CURRENCY = 1 << 4,
    OPENING = 1 << 5,       /* punctuation before a word */
    CLOSING = 1 << 6,       /* punctuation after one */
    NUMERIC = 1 << 7,
    KAOMOJI = 1 << 8,       /* letters of which faces are made */
    UPPER_ACCENT = 1 << 9,
    LOWER_ACCENT = 1 << 10,
    UPPER_COMMON = 1 << 11,
    LOWER_COMMON = 1 << 12,
    BOX = 1 << 13,
    FIRST_OF_2 = 1 << 14,   /* what begins two bytes of UTF-8 looks like this in some code page */
    FIRST_OF_3 = 1 << 15,
    FIRST_OF_4 = 1 << 16,
    CONTINUES = 1 << 17,    /* and what goes on with them */
    CONTINUES_ONLY = 1 << 18, /* without what stands for itself just as often */
    AZ_SMALL = 1 << 19,
    AZ_LARGE = 1 << 20,
    NOT_AZ = 1 << 21,
    NOT_NEWLINE = 1 << 22,
    WHITE = 1 << 23,        /* \s of Python's re */
    WORD = 1 << 24          /* \w */
};
typedef struct { uint32_t first, last, classes; } ftfy_range;
extern const ftfy_range FTFY_CLASSES[]; /* ascending; AZ_SMALL and above are not in it */
extern const size_t FTFY_CLASSES_N;

/* A single-byte code page above ASCII, and the byte 1A, which stands for U+FFFD where the page is sloppy: where
 * bytes without a character mean the code point of their number. */
enum { FTFY_PAGES_N = 10, FTFY_CELLS = 129 };
typedef struct { uint16_t c; uint8_t byte; } ftfy_cell;
typedef struct {
    const char *name;
    bool sloppy, macroman;
    ftfy_cell cell[FTFY_CELLS]; /* ascending by c */
} ftfy_page;
extern const ftfy_page FTFY_PAGES[FTFY_PAGES_N]; /* in the order they are tried; [1]: sloppy windows-1252 */

typedef struct { const char *name; uint32_t c[3]; } ftfy_entity; /* "eacute"; c ends at 0 */
extern const ftfy_entity FTFY_ENTITIES[]; /* ascending by name */
extern const size_t FTFY_ENTITIES_N;

uint32_t ftfy_classes(uint32_t c);
bool ftfy_is_white(uint32_t c);                        /* \s of Python's re, str.isspace */
bool ftfy_is_bad(const uint32_t *at, size_t n);        /* looks like mojibake somewhere */
uint32_t ftfy_c1(uint32_t c);                          /* a C1 control as windows-1252 has it; others as they are */
void ftfy_unescape(utext *to, const utext *from);      /* HTML entities, appended to `to` */
/* Undoes mojibake until nothing changes or *work, in characters looked at, is used up. */
void ftfy_encoding(utext *text, uint64_t *work);
#endif
