/* tokenizer_cat DIR [WORD...]: one text a line on stdin, in hexadecimal; one line of JSON for each: the text as ftfy
 * leaves it and in lower case (both hexadecimal), its ids without BOS and EOS. For tests/reference/tokenizer_oracle.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/str.h"
#include "data/tokenizer.h"
#include "data/tokenizer_words.h"
#include "data/unicode/ftfy.h"

static unsigned digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10U;
}

/* In place; a line of whole pairs of 0-9a-f. */
static size_t from_hex(char *line)
{
    size_t n = 0;

    for (; line[2 * n] > ' '; n++)
        line[n] = (char)(digit(line[2 * n]) << 4 | digit(line[2 * n + 1]));
    return n;
}

static void print_text(const char *key, const utext *text)
{
    str utf8 = {0};

    utext_to_utf8(text->at, text->n, &utf8);
    printf("\"%s\": \"", key);
    for (size_t i = 0; i < utf8.n; i++)
        printf("%02x", (unsigned char)utf8.at[i]);
    printf("\", ");
    str_free(&utf8);
}

static void answer(const tokenizer *t, const char *bytes, size_t n)
{
    uint64_t work = FTFY_WORK;
    int32_t id[TOKENS];
    utext text = {0};
    int all;

    utext_add_utf8(&text, bytes, n);
    ftfy_fix(&text, &work);
    printf("{");
    print_text("fixed", &text);
    words_lower(&text);
    print_text("lower", &text);
    all = tokenizer_encode_bytes(t, bytes, n, id);
    printf("\"n\": %d, \"ids\": [", all);
    for (int i = 0; i < TOKENS; i++)
        printf("%s%d", i ? ", " : "", (int)id[i]);
    printf("]}\n");
    utext_free(&text);
}

int main(int argc, char **argv)
{
    err e = {0};
    tokenizer *t;
    char *line = NULL;
    size_t room = 0;
    int32_t id;

    if (argc < 2 || tokenizer_open(&t, argv[1], &e) != 0) {
        fprintf(stderr, "%s\n", argc < 2 ? "usage: tokenizer_cat DIR [WORD...]" : e.text);
        return 1;
    }
    for (int i = 2; i < argc; i++)
        if (tokenizer_add(t, argv[i], &id, &e) != 0)
            fprintf(stderr, "%s\n", e.text);
    while (getline(&line, &room, stdin) > 0)
        answer(t, line, from_hex(line));
    free(line);
    tokenizer_close(t);
    return 0;
}
