#ifndef NN_NAMES_H
#define NN_NAMES_H
/* Names to numbers: an open-addressed table that never forgets a name. Keys stay the caller's and must outlive it. */
typedef struct {
    const char **key;
    int *value;
    int n, room; /* room is a power of two, at least twice n */
} nn_names;

int nn_names_find(const nn_names *t, const char *key); /* -1: not there */
void nn_names_put(nn_names *t, const char *key, int value);
void nn_names_free(nn_names *t); /* and {0} again */
#endif
