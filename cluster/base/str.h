#ifndef CF_STR_H
#define CF_STR_H
/* Text that grows. str s = {0}; str_add(&s, "%d", 3); ... free(s.at). */
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    char *at;    /* terminated once anything was added; NULL before */
    size_t n;    /* bytes without the terminator */
    size_t room;
} str;

void str_add(str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_put(str *s, const void *bytes, size_t n);
void str_free(str *s);                                        /* and {0} again */
bool str_ends(const char *s, const char *tail);
bool str_starts(const char *s, const char *head);
/* The name of `known` (a list ended by NULL) nearest to `word` by edit distance, or NULL when none is near. */
const char *str_nearest(const char *word, const char *const known[]);
/* Copies at most room-1 bytes and terminates; true when all of it fitted. */
bool str_copy(char *to, size_t room, const char *from);
#endif
