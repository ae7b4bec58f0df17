#ifndef SD_IMPL_H
#define SD_IMPL_H
/* What sd_read.c, sd.c and sd_run.c share. */
#include <pthread.h>

#include "data/safetensors.h"
#include "trainer/model/sd.h"
#include "trainer/model/single.h"
#include "trainer/nn/plan.h"

/* A model directory, or a model in one file, as read and checked, no weight loaded. */
typedef struct {
    char *dir;
    unet_shape unet;
    vae_shape vae;
    clip_shape text;
    schedule noise;
    safetensors *single;       /* a model in one file: dir is its path, and file[] are views of it */
    single_keys keys;
    safetensors *file[SD_PARTS];
    bool named;                /* a shape of shapes.h: dir is its name, and there are no files */
} sd_files;

int sd_files_open(sd_files *out, const char *dir, err *e);
int sd_files_named(sd_files *out, const char *shape, err *e);
void sd_files_close(sd_files *f);
/* One part as it will be asked for, at the smallest size: for the names and shapes of its weights. */
void sd_files_write(nn_graph *g, const sd_files *f, sd_part p);
const char *sd_part_scope(sd_part p);      /* "unet": opened with nn_enter, and the prefix of its names with a dot */

/* A part's function with a plan for n samples of one size. */
typedef enum { RUN_TEXT, RUN_STATES, RUN_PROJECT, RUN_ENCODE, RUN_DECODE, RUN_UNET, SD_RUNS } sd_run;
enum { SD_TOGETHER = 4 };      /* plans of each: for 1, 2, 4 and 8 samples */
typedef struct {
    nn_graph *graph;
    nn_plan *plan;
    int n;
    int64_t size[3];
    nn_tensor in[4], out;
} sd_ready;

struct sd {
    sd_files files;
    tokenizer *words;          /* NULL: not read yet */
    nn_params *params;
    int modifiers;             /* rows of SD_MODIFIER; 0: none */
    int beside;                /* numbers beside each position's text features; 0: none */
    char **kv;                 /* names, ended by NULL */
    char digest[SD_PARTS][HASH_HEX]; /* "": not read yet */
    sd_ready ready[SD_RUNS][SD_TOGETHER];
    pthread_mutex_t text;      /* over ready[RUN_TEXT] and [RUN_STATES]: of a pack several threads ask for texts */
};
#endif
