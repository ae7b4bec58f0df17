#ifndef SD_H
#define SD_H
/* A Stable Diffusion directory in the diffusers layout, or one .safetensors file (single.h): checked whole, opened, its weights in a
 * backend's memory, and its parts at hand as plain functions on host arrays (each with a small plan of its own, made at first use and kept).
 * Weights are known in sd_params() as "unet.", "text_encoder.", "vae." + the name in the file; modifier tokens' rows as
 * "text_encoder.modifier". */
#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "data/tokenizer.h"
#include "trainer/diffusion/schedule.h"
#include "trainer/model/clip.h"
#include "trainer/model/single.h"
#include "trainer/model/unet.h"
#include "trainer/model/vae.h"
#include "trainer/nn/params.h"

#define SD_MODIFIER "text_encoder.modifier"

typedef struct sd sd;

/* The cheap check that `plan` makes: every file is there, every config is one we build, and every weight the graphs ask
 * for exists with its shape. No weight is read. Errors name the file, and the tensor or the key. *factor: pixels to one latent. */
int sd_check(const char *dir, int *factor, err *e);
/* Where a part of a model that is no weights lies: DIR/tokenizer; of MODEL.safetensors in the folder MODEL beside it, where an
 * error asks for it. */
int sd_path(char out[FS_PATH], const char *dir, const char *name, err *e);
/* The same check, then the files are held open; the backend is borrowed. */
int sd_open(sd **out, const char *dir, nn_backend *b, err *e);
/* A shape of shapes.h with random weights, the same ones always, and without tokenizer: for measuring. */
int sd_open_named(sd **out, const char *shape, nn_backend *b, err *e);
void sd_close(sd *m);

/* The model's tokenizer, one for each who asks, to be closed; its vocabulary is read once. From one thread at a time. */
int sd_words(tokenizer **out, sd *m, err *e);

const char *sd_dir(const sd *m);                          /* or the file it is in, */
bool sd_is_single(const sd *m);
const safetensors *sd_file(const sd *m, sd_part p);       /* its tensors under a folder's names; NULL: a named shape */
nn_params *sd_params(sd *m);
const unet_shape *sd_unet_shape(const sd *m);
const clip_shape *sd_text_shape(const sd *m);
const vae_shape *sd_vae_shape(const sd *m);
const schedule *sd_schedule(const sd *m);
int sd_latent_channels(const sd *m);
int sd_side(const sd *m);           /* pixels of the square the model was made for; of its shorter side otherwise */
/* The cross-attentions' K and V matrices in the order the UNet runs them, K before V of each
 * ("unet.down_blocks.0.….attn2.to_k.weight"); NULL past the end. */
const char *sd_kv_name(const sd *m, size_t i);
/* Which base model it is: data/concept.h's fingerprint over those matrices as the file has them, overrides apart. */
int sd_fingerprint(const sd *m, char hex[HASH_HEX], err *e);

/* sha256 of a part's weight file ("unet", "vae", "text_encoder"); read once, then known. */
int sd_digest(sd *m, const char *part, char hex[HASH_HEX], err *e);

/* A weight's shape and values as the model's file has them, whatever overrides or a training put in its place. */
int sd_file_shape(const sd *m, const char *name, nn_shape *out, err *e);
int sd_file_read(const sd *m, const char *name, float *out, size_t count, err *e);

/* Rows of modifier tokens, ids vocab, vocab+1, ...: rows [n,width], copied; n 0 takes them away. Plans of others on
 * these parameters must be freed before (as for sd_override). */
int sd_text_rows_set(sd *m, const float *rows, int n, err *e);
int sd_text_rows(const sd *m);
/* One row of the token table or of the modifiers. */
int sd_text_row(sd *m, int32_t id, float *row, err *e);
/* Another value for a weight; shape as in the file. sd_restore takes back all overrides and modifier rows. */
int sd_override(sd *m, const char *name, const float *data, size_t count, err *e);
void sd_restore(sd *m);
/* Numbers beside the text: each position's features get `width` more, and every K/V matrix a second one, sd_params()'s
 * "unet.….attn2.to_k.beside" [out,width], for those; what both make is added. sd_unet's context is then [n,tokens,text_width+width].
 * 0: none. sd_restore takes them away. */
void sd_beside_set(sd *m, int width);
int sd_beside(const sd *m);
/* Forgets the plans kept for the functions below: for whoever changes weights through sd_params() itself. */
void sd_forget_plans(sd *m);

/* For graphs of others (training): opens the scope and writes the part. */
nn_tensor sd_text_write(nn_graph *g, const sd *m, nn_tensor ids, nn_tensor scale); /* scale: as clip_write */
nn_tensor sd_unet_write(nn_graph *g, const sd *m, nn_tensor x, nn_tensor t, nn_tensor text, bool detach_first);
/* latents [n,h,w,latent], divided by scaling -> pixels [n,h*f,w*f,out], not clamped. */
nn_tensor sd_vae_write_decode(nn_graph *g, const sd *m, nn_tensor latents);
/* The UNet where there are numbers beside the text (sd_beside_set): beside [n,tokens,width], each sample's its own. */
nn_tensor sd_unet_write_beside(nn_graph *g, const sd *m, nn_tensor x, nn_tensor t, nn_tensor text, nn_tensor beside);

/* On host arrays. Samples run one after another, texts and pictures to be encoded also several together; a sample's numbers do not
 * depend on what runs beside it. */
/* sd_text_encode and sd_text_states from several threads at once; the others from one at a time. */
int sd_text_encode(sd *m, const int32_t *ids, int n, int tokens, float *out, err *e);   /* -> [n,tokens,width] */
/* The same in what the backend computes in, where sd_text_encode is of f32: to the last bit what a graph of one sample has. */
int sd_text_states(sd *m, const int32_t *ids, int n, int tokens, float *out, err *e);
/* What captions are compared by: text_projection of the state at the first end token, or that state where the model
 * has no projection; not normalised. out [n, sd_text_embed_width()]. */
int sd_text_embed(sd *m, const int32_t *ids, int n, int tokens, int32_t eos, float *out, err *e);
int sd_text_embed_width(const sd *m);
/* pixels [n,h,w,in] in -1..1 -> mean, logvar [n,h/f,w/f,latent], logvar clamped to -30..20. */
int sd_vae_encode(sd *m, const float *pixels, int n, int h, int w, float *mean, float *logvar, err *e);
/* latents [n,h,w,latent], already divided by scaling -> pixels [n,h*f,w*f,out], not clamped. */
int sd_vae_decode(sd *m, const float *latents, int n, int h, int w, float *pixels, err *e);
/* latents [n,h,w,in], t [n], context [n,tokens,text_width] -> what the model says [n,h,w,out]. */
int sd_unet(sd *m, const float *latents, const float *t, const float *context, int n, int h, int w, int tokens,
            float *out, err *e);
#endif
