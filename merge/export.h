#ifndef EXPORT_H
#define EXPORT_H
/* A concept or merged model for other programs, and theirs for us. */
#include "cluster/base/str.h"
#include "data/concept.h"
#include "merge/torch.h"
#include "trainer/model/sd.h"

typedef struct {
    const concept *c; /* with whole weights (export_full) but where the format takes them as they are */
    sd *base;         /* NULL unless the format asks for it */
    int rank;         /* of a LoRA */
    const char *out;
    double error; /* of a LoRA, > 0: instead of the rank, each matrix's smallest that leaves out at most this share */
    double share; /* of singular values that a compressed delta keeps */
} export_job;

typedef struct {
    const char *name, *help;
    bool needs_base;
    bool (*as_is)(const concept *c); /* whether it takes c without whole weights being made; NULL: no */
    int (*write)(const export_job *j, err *e);
} export_format;
extern const export_format export_formats[]; /* ended by a NULL name */

/* Whole weights for a file that has factors or shifts only; does nothing where they are there. */
bool export_needs_base(const concept *c);
int export_full(concept *c, const sd *base, err *e);

/* What a file's metadata tell of where it comes from; a torch file has it as a record of its own, provenance.json. */
enum { EXPORT_PROVENANCE = 3 };
extern const char *const export_provenance[EXPORT_PROVENANCE + 1]; /* keys, ended by NULL */
void export_provenance_of(const concept *c, const char *values[EXPORT_PROVENANCE + 1]);
int export_torch(const char *path, const st_tensor tensor[], size_t n, const torch_plain plain[], size_t plains, const concept *c,
                 err *e);

/* The parts, for each other: <word>.safetensors = {"<word>": [1, width]} or, where flat, [width]. */
int export_tokens(const concept *c, const char *dir, bool flat, err *e);
int export_model(const export_job *j, err *e); /* export_model.c */
int export_lora(const export_job *j, err *e);  /* export_lora.c: kohya's names */
int export_peft(const export_job *j, err *e);  /* and those of PEFT, as diffusers has them */
bool export_has_factors(const concept *c);
int export_compressed_bin(const export_job *j, err *e); /* export_compressed.c: the authors' compressed deltas */
int export_compressed_ckpt(const export_job *j, err *e);
int export_single(const export_job *j, err *e); /* export_single.c: CompVis' keys */
int export_single_diffusers(const export_job *j, err *e);
int export_shifts(const export_job *j, err *e); /* export_shifts.c: svdiff-pytorch's files */
bool export_has_shifts(const concept *c);
/* A norm's shift between the unit of our files and theirs. */
int shifts_rescale(concept_tensor *t, sd *base, bool to_theirs, err *e);

/* Adds what a file or folder of another program holds to out: tensors under diffusers names, and tokens. Known by their
 * keys: diffusers' custom-diffusion weights and token files (.safetensors and .bin), learned_embeds of Textual
 * Inversion and A1111's form of it, LoRAs in the names of kohya, PEFT and diffusers, svdiff-pytorch's shifts, the authors'
 * delta.bin and delta*.ckpt, plain or compressed, whole models in a folder or in one file. per_level as names.h; base tells which
 * modules there are, NULL: factors and shifts are not known. Keys that mean nothing here are an error that names the first of
 * them. out->width is set by the first tensor that tells. */
/* Keys that are not taken, a line each: those that mean nothing here, which is an error; and those that training programs
 * leave beside a model. */
typedef struct {
    str unknown, passed;
} import_notes;
void import_notes_free(import_notes *n);
int import_read(concept *out, const char *path, int per_level, sd *base, import_notes *notes, err *e); /* notes may be NULL */
bool import_is_model(const char *path);
/* What in it differs from the base. */
int import_model(concept *out, const char *path, const sd *base, import_notes *notes, err *e);
/* Of import_lora.c: a key of a LoRA or of shifts as ours (LAYER.lora_A.weight, .lora_B.weight, .alpha, .shift), out of
 * NAME_ROOM bytes; and the alphas that a file leaves out. */
bool import_lora_key(char *out, const char *key, sd *base);
void import_lora_complete(concept *c);
#endif
