/* FNV-1a and linear probing: a model has about a thousand names. */
#include "trainer/nn/names.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

static uint32_t hash(const char *key)
{
    uint32_t h = 2166136261u;

    for (; *key; key++)
        h = (h ^ (unsigned char)*key) * 16777619u;
    return h;
}

/* Where the key is, or the free place where it would go. */
static int place(const nn_names *t, const char *key)
{
    int at = (int)(hash(key) & (uint32_t)(t->room - 1));

    while (t->key[at] && strcmp(t->key[at], key) != 0)
        at = (at + 1) & (t->room - 1);
    return at;
}

int nn_names_find(const nn_names *t, const char *key)
{
    if (t->room == 0)
        return -1;
    int at = place(t, key);
    return t->key[at] ? t->value[at] : -1;
}

static void widen(nn_names *t)
{
    nn_names old = *t;

    t->room = old.room ? 2 * old.room : 64;
    t->key = NEW_N(const char *, t->room);
    t->value = NEW_N(int, t->room);
    for (int i = 0; i < old.room; i++)
        if (old.key[i]) {
            int at = place(t, old.key[i]);
            t->key[at] = old.key[i];
            t->value[at] = old.value[i];
        }
    free(old.key);
    free(old.value);
}

void nn_names_put(nn_names *t, const char *key, int value)
{
    if (2 * (t->n + 1) > t->room)
        widen(t);
    int at = place(t, key);
    if (!t->key[at])
        t->n++;
    t->key[at] = key;
    t->value[at] = value;
}

void nn_names_free(nn_names *t)
{
    free(t->key);
    free(t->value);
    *t = (nn_names){0};
}
