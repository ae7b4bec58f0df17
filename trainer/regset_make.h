#ifndef REGSET_MAKE_H
#define REGSET_MAKE_H
/* Class pictures that the base model makes for itself, where the settings ask for it (regularisation.generate). */
#include "cluster/comm/comm.h"
#include "data/subject.h"
#include "trainer/model/sd.h"

/* What stands for the model in the recipe of its pictures: sha256 of its three weight files, the side, and the type that it
 * computes in now, which paints other pictures than the other one. free(*out). */
int regset_model(char **out, sd *model, int side, err *e);
/* Whether a recipe can be carried out, without a model: its sampler and so on. */
int regset_make_check(const regset_cfg *c, err *e);

typedef struct {
    void *arg;
    void (*say)(void *arg, const char *text);   /* a sentence on what was found and made; NULL: nobody listens */
    bool (*tick)(void *arg);                    /* after each picture, or those made at once; true: leave it. NULL: go on */
} regset_watch;
/* Makes what data_missing says; by default DDIM, 50 steps, eta 1, guidance 6, as the authors' finetune_gen.sh
 * (custom-diffusion 3.2). Picture k is a function of the recipe and k, so ranks of a gang share the work, several workers
 * that want the same set do, too (each picture is locked while it is made), and a later concept, or a run that was cut
 * short, finds what is there. On a device several are made at once (sample_batch.h). *left: tick said so, and some are missing. Collective. */
int regset_make(bool *left, sd *model, const tokenizer *words, const data_cfg *data, comm *gang, const regset_watch *watch, err *e);
#endif
