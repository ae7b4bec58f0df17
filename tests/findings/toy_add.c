/* Two concepts laid over each other, and the distance of two folders of pictures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/concept.h"
#include "data/image_list.h"
#include "tests/findings/toy.h"
#include "trainer/eval/judge.h"
#include "trainer/eval/score.h"
#include "trainer/model/sd.h"

/* ---- W1 + W2 - W0 ---- */

static int add_matrix(concept_tensor *to, const concept *other, const sd *base, err *e)
{
    const size_t n = (size_t)to->rows * (size_t)(to->cols ? to->cols : 1);
    const concept_tensor *more = concept_find(other, to->name);
    float *w0 = NEW_N(float, n);
    char name[600];

    snprintf(name, sizeof name, "unet.%.500s", to->name);
    int rc = more ? sd_file_read(base, name, w0, n, e) : err_set(e, ERR_INPUT, "%s is in one of the concepts only", to->name);
    for (size_t i = 0; i < n && rc == 0; i++)
        to->data[i] += more->data[i] - w0[i];
    free(w0);
    return rc;
}

/* sum: the first, read; becomes a concept of both words, without a card or a history, which were of the first alone. */
static int add_all(concept *sum, const concept *other, const sd *base, const char *out, err *e)
{
    for (int i = 0; i < sum->n_tensors; i++)
        TRY(add_matrix(&sum->tensors[i], other, base, e));
    for (int i = 0; i < other->n_tokens; i++)
        concept_add_token(sum, other->tokens[i].word, other->tokens[i].class_word, other->tokens[i].initial_id,
                          other->tokens[i].row);
    return concept_write(out, sum, e);
}

int findings_add(const char *base, const char *one, const char *other, const char *out, err *e)
{
    concept a = {0}, b = {0};
    nn_backend *on = NULL;
    sd *model = NULL;
    int rc = concept_read(&a, one, CONCEPT_TENSORS, e);

    if (rc == 0)
        rc = concept_read(&b, other, CONCEPT_TENSORS, e);
    if (rc == 0)
        rc = nn_cpu_open(&on, 0, false, e);
    if (rc == 0)
        rc = sd_open(&model, base, on, e);
    if (rc == 0)
        rc = add_all(&a, &b, model, out, e);
    sd_close(model);
    if (on)
        on->close(on);
    concept_free(&a);
    concept_free(&b);
    return rc;
}

/* ---- KID ---- */

static int features_of(float **out, int64_t *n, judge *j, const char *folder, err *e)
{
    image_list l = {0};
    int rc = image_list_add(&l, ".", folder, e);

    *n = (int64_t)l.n;
    *out = NEW_N(float, l.n * (size_t)judge_width(j) + 1);
    for (size_t i = 0; i < l.n && rc == 0; i++)
        rc = judge_file(j, l.at[i].path, *out + i * (size_t)judge_width(j), e);
    if (rc == 0)
        score_normalise(*out, *n, judge_width(j));
    image_list_free(&l);
    return rc;
}

int findings_kid(const char *clip, const char *folder, const char *against, err *e)
{
    const kid_opts how = {.subsets = 1, .size = 1000000, .seed = 1};
    nn_backend *on = NULL;
    judge *j = NULL;
    float *x = NULL, *y = NULL;
    int64_t nx = 0, ny = 0;
    kid is;
    int rc = nn_cpu_open(&on, 0, false, e);

    if (rc == 0)
        rc = judge_open_clip(&j, clip, on, e);
    if (rc == 0)
        rc = features_of(&x, &nx, j, folder, e);
    if (rc == 0)
        rc = features_of(&y, &ny, j, against, e);
    if (rc == 0)
        rc = score_kid(&is, x, nx, y, ny, judge_width(j), &how, e);
    if (rc == 0)
        printf("%.9g\n", is.mean);
    free(x);
    free(y);
    judge_close(j);
    if (on)
        on->close(on);
    return rc;
}
