#ifndef REGSET_H
#define REGSET_H
/* Regularisation pictures: of the subject's class but not of the subject, with captions that never hold its token.
 * They come from one of three places, and too few of them is an error with the choices named, never a reason to
 * make some:
 *
 *   images            a folder or list, with captions (a file, beside the pictures, or the class's own caption)
 *   generate: N       N pictures made by the base model and kept in a folder named after what decides them (model,
 * prompt, sampler, seed), so that every concept that asks for the same finds them; here is only told what is missing. A
 * folder of the user's own choice is held to that by a file in it (REGSET_MADE) index             a larger captioned
 * folder or list, or the file that `cfarm reg index` made of one; taken are the captions most like the class's own, by
 * the cosine of their text embeddings, down to `similarity` (Kumari et al. 2023: 200 above 0.85) */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/fs.h"
#include "data/image_list.h"
#include "data/reg_index.h"

typedef struct {
    const char *images, *captions, *index; /* "" where not given */
    int64_t generate;                      /* 0: not */
    int64_t count;                         /* wanted; 0: all of images, REGSET_COUNT of index */
    double similarity;
    const char *prompt, *sampler;          /* of generate; prompt "": the class's own caption */
    int64_t sampling_steps, seed;
    double guidance, eta;
} regset_cfg;
enum { REGSET_COUNT = 200, REGSET_CHUNK = 64 };
#define REGSET_MADE "made.json"

/* The text encoder as this floor sees it. run fills [n, dim] for at most REGSET_CHUNK captions; any length of vector
 * but 0 will do, they are normalised here. */
typedef struct {
    int dim;
    int (*run)(void *arg, const char *const captions[], int n, float *out, err *e);
    void *arg;
} regset_embed;

/* How a choice from an index came out; of 0: there was none. */
typedef struct {
    size_t of, found;     /* captions in the index; as near as similarity */
    double lowest;        /* cosine of the farthest that was taken */
} regset_told;

/* What a generator has to make: pictures want - have, named by regset_name, in folder. */
typedef struct {
    char folder[FS_PATH]; /* may not be there yet */
    char prompt[512];
    char recipe[1024];    /* what REGSET_MADE in the folder says: all that decides a picture besides its number */
    int want, have;
} regset_need;
void regset_name(char out[32], int k); /* "00007.png" */

bool regset_asked(const regset_cfg *c);
/* The settings alone: one source, captions only where they mean something. */
int regset_check(const regset_cfg *c, err *e);
/* own: the caption of the class itself, "photo of a dog". model: what stands for the model that makes pictures, and
 * their size; NULL for a plan. want is 0 where nothing is to be generated. ERR_INPUT where the folder holds others'
 * pictures. */
int regset_missing(regset_need *out, const regset_cfg *c, const char *root, const char *own, const char *model, err *e);
/* Entries with captions, each. embed may be NULL where there is no index. */
int regset_open(image_list *out, regset_told *told, const regset_cfg *c, const char *root, const char *own,
                const char *model, const regset_embed *embed, err *e);
/* The same for a plan, without a model: pictures to be generated or chosen are left out but counted in *later; an
 * index is only looked at. */
int regset_look(image_list *out, uint32_t *later, const regset_cfg *c, const char *root, const char *own, err *e);

/* ---- index files (regset_index.c) ---- */

/* Whether two vectors of REG_INDEX_PROBE are of one text encoder. */
bool regset_same_probe(const float *a, const float *b, int dim);
/* Opens an index that this encoder made and searches it. Close *out and free *hits, after an error as well. */
int regset_ask(reg_index **out, const char *path, const char *caption, double least, size_t want,
               const regset_embed *embed, reg_hit **hits, size_t *n, size_t *found, err *e);
/* The chosen pictures, those of archives taken out below root; out stays empty where told->found is under want. */
int regset_from_index(image_list *out, regset_told *told, const char *path, const char *root, const char *own,
                      double least, size_t want, const regset_embed *embed, err *e);
#endif
