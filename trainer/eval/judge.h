#ifndef JUDGE_H
#define JUDGE_H
/* A model that measures pictures, opened: pictures go in, rows of features come out. Its files are the public ones:
 *
 *   CLIP       a folder as Hugging Face has it: config.json, model.safetensors, vocab.json, merges.txt (these two
 * there, in tokenizer/, or, for a CLIP kept inside a Stable Diffusion folder, in ../tokenizer) DINO       a folder as
 * Hugging Face has a ViTModel, or the authors' checkpoint as one .safetensors file Inception  one .safetensors file
 * with the names of torchvision or pytorch-fid
 *
 * Errors name the file, and the tensor or the key. Samples run one by one: a picture's features do not depend on its
 * neighbours. */
#include "data/image.h"
#include "trainer/nn/backend.h"

typedef struct judge judge;
int judge_open_clip(judge **out, const char *dir, nn_backend *b, err *e);
int judge_open_dino(judge **out, const char *path, nn_backend *b, err *e);
int judge_open_inception(judge **out, const char *file, nn_backend *b, err *e);
void judge_close(judge *j);

int judge_width(const judge *j);
/* What it is, for a report: "CLIP ViT, 224 pixels in patches of 32, 512 features". */
const char *judge_what(const judge *j);
/* out [width], as the model gives them, not normalised. */
int judge_picture(judge *j, const image *m, float *out, err *e);
int judge_file(judge *j, const char *path, float *out, err *e);
/* CLIP only: a text of any length, cut at 77 tokens as its authors do. */
int judge_text(judge *j, const char *text, float *out, err *e);
#endif
