#ifndef CFG_IMPL_H
#define CFG_IMPL_H
/* What the files of cfg share: one value between its text and its member, and the record of a filling. */
#include "cluster/base/str.h"
#include "configs/cfg.h"

/* Where one member's value came from; path as flags and errors call it: "subjects[0].class". */
typedef struct cfg_origin {
    struct cfg_origin *next;
    const cfg_field *row;
    const void *member;
    const char *path;
    bool given;                  /* else it is the fallback */
    cfg_mark at;
} cfg_origin;

struct cfg {
    cfg_doc *doc;
    const cfg_section *sections;
    size_t n;
    cfg_origin *first, **end;
};

/* Sets the member from a text; false when the row does not allow it. TEXT is kept by reference; no TEXTS, no TABLE. */
bool cfg_parse(const cfg_field *row, const char *text, void *member);
/* Adds the member as one would write it in a file. */
void cfg_print(const cfg_field *row, const void *member, str *out);
/* Adds what the row allows: "a whole number from 1 to 1000000 steps, or auto". */
void cfg_allowed(const cfg_field *row, str *out);
#endif
