/* Character classes are those of Unicode 14 (libunistring 1.0), as in Python 3.11. */
#include "data/tokenizer_words.h"

#include <unicase.h>
#include <unictype.h>

#include "data/unicode/ftfy.h"

enum { SIGMA = 0x3A3, FINAL_SIGMA = 0x3C2, SMALL_SIGMA = 0x3C3, I_DOT = 0x130, DOT_ABOVE = 0x307, LONG_S = 0x17F };

static bool is_white(uint32_t c)
{
    return c == ' ' || uc_is_property_white_space(c);
}

static void collapse_white(utext *text)
{
    size_t n = 0;

    for (size_t i = 0; i < text->n; i++) {
        if (!is_white(text->at[i]))
            text->at[n++] = text->at[i];
        else if (n > 0 && text->at[n - 1] != ' ')
            text->at[n++] = ' ';
    }
    text->n = n > 0 && text->at[n - 1] == ' ' ? n - 1 : n;
}

/* A sigma is final behind a cased letter and with none after it; what case ignores lies between unseen. */
static bool is_final(const uint32_t *at, size_t n, size_t i)
{
    size_t left = i, right = i + 1;

    while (left > 0 && uc_is_property_case_ignorable(at[left - 1]))
        left--;
    if (left == 0 || !uc_is_property_cased(at[left - 1]))
        return false;
    while (right < n && uc_is_property_case_ignorable(at[right]))
        right++;
    return right == n || !uc_is_property_cased(at[right]);
}

void words_lower(utext *text)
{
    utext to = {0};

    for (size_t i = 0; i < text->n; i++) {
        const uint32_t c = text->at[i];

        if (c == SIGMA)
            utext_put(&to, is_final(text->at, text->n, i) ? FINAL_SIGMA : SMALL_SIGMA);
        else
            utext_put(&to, uc_tolower(c));
        if (c == I_DOT) /* the one letter whose lower case is two characters */
            utext_put(&to, DOT_ABOVE);
    }
    utext_swap(text, &to);
    utext_free(&to);
}

void words_clean(utext *text, uint64_t *work)
{
    ftfy_fix(text, work);
    collapse_white(text);
    words_lower(text);
}

/* The pattern ignores case: a long s is an s. */
static bool begins(const uint32_t *at, size_t n, const char *literal)
{
    size_t i = 0;

    while (literal[i] && i < n && (at[i] == (unsigned char)literal[i] || (literal[i] == 's' && at[i] == LONG_S)))
        i++;
    return !literal[i];
}

static size_t literal_length(const uint32_t *at, size_t n)
{
    static const struct { const char *text; size_t n; } ROWS[] = {
        {"<|startoftext|>", 15}, {"<|endoftext|>", 13}, {"'s", 2}, {"'t", 2}, {"'re", 3}, {"'ve", 3}, {"'m", 2},
        {"'ll", 3}, {"'d", 2},
    };

    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        if (begins(at, n, ROWS[i].text))
            return ROWS[i].n;
    return 0;
}

typedef enum { WHITE, LETTER, DIGIT, OTHER } kind;

static kind kind_of(uint32_t c)
{
    if (c < 0x80)
        return (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? LETTER : c >= '0' && c <= '9' ? DIGIT : is_white(c) ? WHITE : OTHER;
    if (uc_is_general_category_withtable(c, UC_CATEGORY_MASK_L))
        return LETTER;
    if (uc_is_general_category_withtable(c, UC_CATEGORY_MASK_N))
        return DIGIT;
    return is_white(c) ? WHITE : OTHER;
}

size_t words_next(const uint32_t *at, size_t n)
{
    const kind first = kind_of(at[0]);
    size_t i = first == OTHER ? literal_length(at, n) : 0;

    if (i > 0 || first == WHITE)
        return i;
    i = 1;
    while (first != DIGIT && i < n && kind_of(at[i]) == first)
        i++;
    return i;
}
