#include "data/collage.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"

struct collage {
    int n;
    char **caption; /* [prior][left][right][form] */
};

static size_t place_of(int n, bool prior, int left, int right, int form)
{
    return ((((size_t)prior * (size_t)n + (size_t)left) * (size_t)n + (size_t)right) * COLLAGE_FORMS) + (size_t)form;
}

/* "<a> dog", or "dog" */
static void add_words(str *s, const data_cfg *c, int i, bool prior)
{
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];
    int n = prior ? 0 : subject_tokens(words, c, i);

    for (int k = 0; k < n; k++)
        str_add(s, "%s ", words[k]);
    str_add(s, "%s", data_subject(c, i)->class_word);
}

static int write_caption(char **out, const data_cfg *c, bool prior, int left, int right, int form, err *e)
{
    const subject_cfg *first = data_subject(c, left);
    const char *in = first->form[0] ? first->form : first->style ? caption_style : caption_object;
    str s = {0};

    add_words(&s, c, form == 0 ? left : right, prior);
    str_add(&s, form == 0 ? " on the left and a " : " and a ");
    add_words(&s, c, form == 0 ? right : left, prior);
    str_add(&s, form == 0 ? " on the right" : "");
    int rc = caption_fill(out, in, s.at, e);
    str_free(&s);
    return rc;
}

int collage_open(collage **out, const data_cfg *c, err *e)
{
    int n = data_subjects(c), rc = 0;
    collage *k = NEW(collage);

    *k = (collage){n, NEW_N(char *, place_of(n, true, n, 0, 0))};
    for (int i = 0; i < 2 * n * n * COLLAGE_FORMS && rc == 0; i++) {
        int form = i % COLLAGE_FORMS, right = i / COLLAGE_FORMS % n, left = i / COLLAGE_FORMS / n % n;
        bool prior = i / COLLAGE_FORMS / n / n > 0;
        if (left != right)
            rc = write_caption(&k->caption[place_of(n, prior, left, right, form)], c, prior, left, right, form, e);
    }
    if (rc != 0) {
        collage_close(k);
        return rc;
    }
    *out = k;
    return 0;
}

void collage_close(collage *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < place_of(k->n, true, k->n, 0, 0); i++)
        free(k->caption[i]);
    free(k->caption);
    free(k);
}

const char *collage_caption(const collage *k, bool prior, int left, int right, int form)
{
    return k->caption[place_of(k->n, prior, left, right, form)];
}

void collage_join(float *left, const float *right, int side)
{
    size_t half = (size_t)(side / 2), other = (size_t)side - half, from = (size_t)(side / 4) * 3;

    for (int y = 0; y < side; y++) {
        float *to = left + (size_t)y * (size_t)side * 3;
        memmove(to, to + from, half * 3 * sizeof *to);
        memcpy(to + half * 3, right + (size_t)y * (size_t)side * 3 + from, other * 3 * sizeof *to);
    }
}
