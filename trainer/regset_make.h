#ifndef REGSET_MAKE_H
#define REGSET_MAKE_H
/* Class pictures that the base model makes for itself, where the settings ask for it (regularisation.generate). */
#include "cluster/comm/comm.h"
#include "data/subject.h"
#include "trainer/model/sd.h"

/* Makes what data_missing says: DDIM, 50 steps, eta 1, guidance 6, as the authors' finetune_gen.sh (custom-diffusion 3.2);
 * picture k is a function of the base model, the prompt and k, so ranks of a gang share the work and a second concept, or a
 * run that was cut short, finds what is there. Collective. */
int regset_make(sd *model, const tokenizer *words, const data_cfg *data, comm *gang, err *e);
#endif
