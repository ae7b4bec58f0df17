/* The captions whose features a merge keeps: a user's file, or the list carried along (captions.txt, made into
 * captions.inc by CMake). */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "merge/features.h"

enum { FILE_MOST = 64 << 20, CAPTION_MOST = 4096 };

static const char *const shipped[] = {
#include "captions.inc"
    NULL};

static void push(char ***list, int *n, const char *from, size_t length)
{
    *list = mem_grow(*list, (size_t)*n + 2, sizeof **list);
    (*list)[*n] = mem_new(length + 1, 1);
    memcpy((*list)[(*n)++], from, length);
    (*list)[*n] = NULL;
}

static void split(char ***out, int *n, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n"), from = 0, to = length;
        while (from < to && isspace((unsigned char)text[from]))
            from++;
        while (to > from && isspace((unsigned char)text[to - 1]))
            to--;
        if (to > from)
            push(out, n, text + from, to - from < CAPTION_MOST ? to - from : CAPTION_MOST);
        text += length + (text[length] == '\n');
    }
}

int captions_read(char ***out, int *n, const char *path, err *e)
{
    char *text;
    size_t bytes;
    *out = NULL;
    *n = 0;
    if (!path) {
        for (const char *const *at = shipped; *at; at++)
            push(out, n, *at, strlen(*at));
        return 0;
    }
    TRY(fs_read(path, &text, &bytes, FILE_MOST, e));
    split(out, n, text);
    free(text);
    return *n ? 0 : err_set(e, ERR_INPUT, "%s: holds no caption; one is wanted on each line", path);
}

void captions_free(char **captions)
{
    for (char **at = captions; at && *at; at++)
        free(*at);
    free(captions);
}

void captions_hash(char hex[HASH_HEX], char *const captions[], int n)
{
    hash *h = hash_new();
    for (int i = 0; i < n; i++)
        hash_add(h, captions[i], strlen(captions[i]) + 1);
    hash_end(h, hex);
}
