#ifndef CONCEPT_H
#define CONCEPT_H
/* What training leaves behind: one concept, or several merged into one, as one HDF5 file (data/store.h). A plain
 * struct in memory; concept_write makes the file whole or not at all, concept_read takes the parts asked for.
 *
 * The file, for any HDF5 reader:
 *   /              attributes: format, version, kind, method, base, base_path, created, seed, recipe, settings, width
 *   /kv/LAYER/     to_k, to_v [out, in] f32, the whole trained matrices; crossattn also to_q, to_out.0.weight, .bias.
 *                  LAYER is the diffusers name up to "attn2"; a dataset without ".weight" or ".bias" is NAME.weight
 *   /weights/NAME  matrices outside cross-attention, for methods that move those, under their diffusers name
 *   /tokens/WORD   the embedding row [width] f32; attributes class, initial_id, at (its place among the tokens)
 *   /card          the merge card: what a merge needs to know of this concept (below)
 *   /history       loss, lr, grad_norm (before clipping), one value a step; no times: they differ between equal runs
 *   /samples/NAME  PNG bytes
 *   /factors       merged only: the update as left' right: left/N [rows, outs] the images of one source's rows, all matrices
 *                  behind each other, and one right factor [rank, width]
 *   /bank          merged only: concepts beside a base that stays as it is, instead of /factors (below)
 *   /sources       merged only: the files it was made of;  /certificate: what the merge promises
 * Files of every past version stay readable. */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/hash.h"

typedef enum { CONCEPT_SINGLE, CONCEPT_MERGED } concept_kind;

typedef struct {
    char *name; /* diffusers name: "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"; of the text
                 * encoder with "text_encoder." before it */
    int64_t rows, cols; /* [rows, cols]; cols 0: a vector of rows (a bias) */
    float *data;
} concept_tensor;

typedef struct {
    char *word;         /* "<new1>" */
    char *class_word;   /* "cat", "wooden pot"; may be "" */
    int32_t initial_id; /* vocabulary id its row began as; -1: unknown */
    float *row;         /* [width] */
} concept_token;

/* One target row of a merge: the text feature of one position of one prompt. */
typedef struct {
    char *label;   /* for people: "photo of a <new1> cat: <new1>" */
    char *key;     /* its token prefix, modifier words spelled: "49406 1125 539 320 <new1>". Same key, same row */
    double wanted; /* |W k| over all matrices: what a residual is measured against */
} concept_row;

typedef struct {
    char *name; /* as concept_tensor.name */
    int64_t rows;
} concept_matrix;

/* The merge card: the images dW k of the target rows under the concept's own change dW = W - W0, instead of W itself
 * (facts: 0.7 MB for SD 1.5 against 77). n == 0: the file has none. */
typedef struct {
    int n;     /* target rows */
    int width; /* of the text features */
    int matrices;
    int64_t outs;           /* sum of matrix[].rows */
    concept_row *row;       /* [n] */
    concept_matrix *matrix; /* [matrices] */
    float *bos;             /* [width]: the feature of the first token, the same for every prompt of a text encoder */
    float *k;               /* [n, width] */
    float *image;           /* [n, outs]: dW k, matrix after matrix in the order of matrix[] */
} concept_card;

typedef struct {
    int n;
    float *loss, *lr, *grad_norm; /* [n] each */
} concept_history;

typedef struct {
    char *name; /* "0.png" */
    unsigned char *png;
    size_t bytes;
} concept_sample;

/* W = W0 + left' right: W0 [rows, width], left' the matrix's columns of `left`, turned. */
typedef struct {
    int rank, width, matrices;
    int64_t outs;
    concept_matrix *matrix; /* [matrices] */
    char **label;           /* [rank]: which target row each factor answers for */
    float *left;            /* [rank, outs]; NULL where only CONCEPT_ROWS were read */
    double *right;          /* [rank, width] */
    /* What another merge needs to know of this one, so that a source can be added, taken out or weighed without the
     * files of the others; NULL in files that do not keep it. */
    int *source;    /* [rank] which of the sources asks for the row; those of a source stand together, in the sources' order */
    char **key;     /* [rank] as concept_row.key, with the merged file's words */
    double *wanted; /* [rank] as concept_row.wanted */
    float *k;       /* [rank, width] */
    float *bos;     /* [width] */
    double *moved;  /* [matrices + 1] |(W - W0) R'|^2 of each matrix on the captions; last: of all on those held out */
    /* And what it needs of the images, so that it need not read them (merge/probes.h); NULL in older files. */
    int probes;     /* numbers a row */
    float *seen;    /* [rank, probes] */
    double *size;   /* [rank] |image|^2 */
    double doubt;   /* of the sum of moved: its variance, for images seen through probes tell them only about */
    int *block;     /* [sources] the number its images go by in the file; NULL: 0, 1, 2, .. */
} concept_factors;

/* One concept of a bank: dW = left' right on the positions of a prompt that its words address. Which those are:
 *   before the prompt's first end token, those whose last word of any concept, at or before them, is one of this one's;
 *   from the end token on, all of them, with the weight 1 / (number of concepts in the prompt).
 * Everywhere else, and in a prompt without words, keys and values are the base's. So a concept alone in a prompt is
 * what it was alone, however many lie beside it. A sampler that knows nothing of this must not take the file. */
typedef struct {
    int first, words; /* its words are tokens[first .. first + words) of the merged file */
    int rank;
    float *left;   /* [rank, outs]; NULL until concept_read_shares */
    double *right; /* [rank, width] */
    bool plain;    /* in no file: a concept of its own laid beside the base as it is (trainer/bank.h); right is NULL, the
                    * identity of rank width, or of rank 0 where only its words are its own */
} concept_share;

typedef struct {
    int n, width, matrices;
    int64_t outs;
    concept_matrix *matrix; /* [matrices] */
    concept_share *share;   /* [n] */
} concept_bank;

typedef struct {
    char *name;   /* file name without folders */
    char *sha256; /* root digest of the file's contents (store_digest) */
    char *words;  /* "<new1>" or "<new1> as <new2>", joined by ", " */
    double weight; /* of its update; 0 stands for 1 */
} concept_source;

typedef struct {
    concept_kind kind;
    char *method;    /* "custom-diffusion" */
    char *base;      /* fingerprint of the base model, 64 hexadecimal digits (concept_fingerprint) */
    char *base_path; /* where it stood when this was made: a hint, never trusted without the fingerprint */
    char *created;   /* "2026-11-22T21:00:00Z"; given by the caller, so that the same run gives the same bytes */
    char *recipe;    /* JSON: what decided the numbers */
    char *settings;  /* YAML: the settings as run */
    uint64_t seed;
    int width; /* of the text encoder */

    int n_tensors, n_tokens, n_samples, n_sources;
    concept_tensor *tensors; /* a merged file made with --factors-only has none */
    concept_token *tokens;
    concept_card card;
    concept_history history;
    concept_sample *samples;
    concept_factors factors; /* rank 0: none */
    concept_bank bank;       /* n 0: none */
    concept_source *sources;
    char *certificate;     /* JSON; merged only */
    char digest[HASH_HEX]; /* of the file it was read from (store_digest); concept_write passes over it */
} concept;

/* Parts of a file; attributes and tokens are always read. */
enum {
    CONCEPT_TENSORS = 1,
    CONCEPT_CARD = 2,
    CONCEPT_HISTORY = 4,
    CONCEPT_SAMPLES = 8,
    CONCEPT_FACTORS = 16, /* with sources, certificate, and who is in a bank */
    CONCEPT_ALL = 31,
    CONCEPT_ROWS = 32 /* the same without images: concept_read_left */
};

/* *out is overwritten; concept_free it after success. Whatever is read is checked against its sha256. Texts the file
 * lacks become "". ERR_INPUT when it is no concept file, a version from the future, or damaged. */
int concept_read(concept *out, const char *path, unsigned parts, err *e);
/* What a bank that was read keeps for share i where wanted[i]; wanted NULL: for all. */
int concept_read_shares(concept *c, const char *path, const bool wanted[], err *e);
int concept_read_left(concept *c, const char *path, err *e); /* the images, where they were not read */
/* Atomic; the same struct gives the same bytes. NULL texts are written as "". */
int concept_write(const char *path, const concept *c, err *e);
/* The same into what is left of the file c came of by a few changes (store_renew): images of sources with kept[s] stay where
 * they lie, unread, under their numbers; c->factors.left has the rows of the others alone, in their order. */
int concept_renew(const char *path, const concept *c, const bool kept[], const char *from, const char *digest, err *e);
void concept_free(concept *c); /* everything it points to, and zeroes it; {0} is fine */

const concept_tensor *concept_find(const concept *c, const char *name); /* NULL: none */
/* Grow the lists; text and data are copied (data may be NULL: zeroes). */
concept_tensor *concept_add_tensor(concept *c, const char *name, int64_t rows, int64_t cols, const float *data);
concept_token *concept_add_token(concept *c, const char *word, const char *class_word, int32_t initial_id,
                                 const float *row);
/* W of one matrix as this file has it, from the base's w0 [rows, cols]: the tensor itself, or w0 + left' right where
 * only factors are there. *changed tells whether the file speaks of it; if not, out = w0. Needs the parts
 * TENSORS and FACTORS read. */
int concept_weight(const concept *c, const char *name, const float *w0, int64_t rows, int64_t cols, float *out,
                   bool *changed, err *e);

/* sha256 over name, shape and f32 values of all cross-attention K/V matrices among kv, in order of name. Two files of
 * the same model (f16 values stored as f32 included) have one fingerprint. Other tensors are passed over. */
void concept_fingerprint(const concept_tensor *kv, int n, char hex[HASH_HEX]);
bool concept_is_kv(const char *name); /* ends in attn2.to_k.weight or attn2.to_v.weight */
void concept_card_free(concept_card *c);
#endif
