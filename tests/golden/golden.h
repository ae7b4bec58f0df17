#ifndef GOLDEN_H
#define GOLDEN_H
/* golden_check's ground: a directory of expected values, what of it is wanted, and what was computed.
 *
 * The contract of a part (check_*.c): it looks which entries are wanted, computes them through the product's own code,
 * and puts each under its name. What it cannot compute it leaves alone: main says NOT BUILT. It returns an error only
 * where something went wrong; what was put before stays and is judged. Inputs and outputs are in the golden's layout
 * (maps [n,c,h,w]); the product's are [n,h,w,c]. No size is known beforehand: everything comes from entries, JSON and
 * the model's configs. */
#include <stdbool.h>
#include <stdint.h>

#include "cluster/base/err.h"
#include "cluster/base/json.h"
#include "data/safetensors.h"
#include "trainer/model/sd.h"

typedef struct golden golden;
typedef enum { GOLDEN_MAIN, GOLDEN_TRAIN, GOLDEN_MERGE, GOLDEN_TOKENIZER, GOLDEN_FILES } golden_file;

typedef struct {
    const char *dir;             /* holds golden.*, train_golden.*, merge_golden.*, tokenizer_golden.json; any absent */
    const char *model;           /* NULL: DIR/model */
    const char *only;            /* a Perl-compatible regular expression, searched in names; NULL: all */
    bool debug;                  /* debug entries are wanted and judged too */
    const char *backend;         /* as nn_open calls it: "cpu", "cuda", "cuda:N" */
    bool bf16;                   /* every product in bf16, however small; judged by bf16's own tolerances */
} golden_opts;

int golden_open(golden **out, const golden_opts *o, err *e);
void golden_close(golden *g);

/* ---- for the parts ---- */

/* True while an entry of this name exists, shall be computed (output, info, unstable; debug on request; --only) and
 * was not put yet. */
bool golden_wants(const golden *g, const char *name);
/* Whether any entry whose name starts so is wanted. */
bool golden_wants_any(const golden *g, const char *prefix);
/* Names wanted that start so, in the order of the file; free the list, not the names. Ended by NULL. */
const char **golden_wanted(const golden *g, const char *prefix, size_t *n);
bool golden_has(const golden *g, const char *name);           /* an entry of any kind, input or output */

/* An entry's tensor, of any kind: shape and data as in the file; ERR_INPUT where it is absent. */
int golden_tensor(const golden *g, const char *name, const st_tensor **out, err *e);
/* Copied out as f32 / i32 (malloc, caller frees); shape may be NULL. f32_nhwc turns [n,c,h,w] into [n,h,w,c]. */
int golden_f32(const golden *g, const char *name, float **out, st_tensor *shape, err *e);
int golden_f32_nhwc(const golden *g, const char *name, float **out, st_tensor *shape, err *e);
int golden_i32(const golden *g, const char *name, int32_t **out, st_tensor *shape, err *e);

/* What was computed, in the entry's layout; copied. count: elements. A name that is not wanted is ignored, so a part
 * may put whatever it has. */
void golden_put(golden *g, const char *name, const float *data, size_t count);
void golden_put_nhwc(golden *g, const char *name, const float *data, int64_t n, int64_t h, int64_t w, int64_t c);
void golden_put_i32(golden *g, const char *name, const int32_t *data, size_t count);

/* The whole of a .json; NULL where the file is absent. */
const json_t *golden_json(const golden *g, golden_file which);
const char *golden_dir(const golden *g);
/* The model directory (--model or DIR/model), and the tokenizer's: MODEL/tokenizer, else DIR/tokenizer. */
const char *golden_model_dir(const golden *g);
const char *golden_tokenizer_dir(const golden *g);
/* The model, opened at first use on the backend; without overrides and modifier rows at every call. Plans a part made on
 * its parameters must be freed before the next call. */
int golden_sd(golden *g, sd **out, err *e);

/* ---- the parts, one a file; main calls each ---- */
int check_text(golden *g, err *e);
int check_unet(golden *g, err *e);
int check_vae(golden *g, err *e);
int check_sched(golden *g, err *e);
int check_sample(golden *g, err *e);
int check_lr(golden *g, err *e);
int check_tokenizer(golden *g, err *e);
int check_train(golden *g, err *e);
int check_merge(golden *g, err *e);

/* ---- for main ---- */

typedef struct { int judged, failed, not_built; } golden_tally;
/* One line an entry on stdout: name, error, tolerance, verdict. */
int golden_judge(golden *g, golden_tally *out, err *e);
/* Everything put, under the entries' names. */
int golden_write(const golden *g, const char *path, err *e);
#endif
