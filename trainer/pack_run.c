#include "trainer/pack_run.h"

#include <stdio.h>
#include <stdlib.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "trainer/pack.h"

typedef struct {
    const char *name;
    concept_cfg cfg;
    char *settings, out[FS_PATH];
    train_job job;
    bool gone;                   /* in a pack, or ended */
    int *failed;
} entry;

static void over(void *arg, int rc, const train_summary *sum, const err *why)
{
    entry *x = arg;

    if (rc == 0)
        fprintf(stderr, "concept %s: %d steps, mean loss %.5f over the first tenth and %.5f over the last\n", x->name, sum->steps,
                sum->first_loss, sum->last_loss);
    else
        fprintf(stderr, "concept %s: %s\n", x->name, why->text);
    *x->failed += rc != 0;
}

static int settle(entry *x, const farmfile *farm, const farm_concept *f, const char *folder, comm *self, int *failed, err *e)
{
    char file[FS_PATH];
    const cfg *from;

    *x = (entry){.name = f->name, .failed = failed};
    TRY(concept_cfg_fill(&x->cfg, &from, farm->doc, f->settings, e));
    snprintf(file, sizeof file, "%s.h5", f->name);
    TRY(fs_join(x->out, folder, file, e));
    x->settings = cfg_values(from);
    x->job = (train_job){.name = x->name, .cfg = &x->cfg, .settings = x->settings, .gang = self, .out = x->out};
    return 0;
}

/* Everybody left of the first one's class. */
static int one_pack(sd *model, entry *first, entry *end, const pack_opts *o, err *e)
{
    pack *p;
    err no = {0};

    TRY(pack_open(&p, model, &first->job, o, e));
    for (entry *x = first; x < end; x++)
        if (!x->gone && pack_takes(p, &x->job, &no) == 0) {
            x->gone = true;
            pack_put(p, &x->job, over, x);
        }
    pack_close(p);
    return 0;
}

static void one_alone(sd *model, entry *x)
{
    train_summary sum;
    err why = {0};

    x->gone = true;
    int rc = train_concept(model, &x->job, &sum, &why);
    over(x, rc, &sum, &why);
}

/* One that cannot even open a pack ends with what stands in its way. */
static void run_all(sd *model, entry *at, int n, const pack_opts *o)
{
    for (entry *x = at; x < at + n; x++) {
        bool packs = method_find(method_names[x->cfg.how.method])->packs;
        err why = {0};

        if (!x->gone && !packs)
            one_alone(model, x);
        else if (!x->gone && one_pack(model, x, at + n, o, &why) != 0) {
            x->gone = true;
            over(x, (int)why.code, &(train_summary){0}, &why);
        }
    }
}

int pack_run(const farmfile *farm, const char *folder, const pack_opts *o, int *failed, err *e)
{
    entry *at = NEW_N(entry, farm->concept_count + 1);
    const bool cuda = farm->backend == FARM_BACKEND_CUDA;
    const pack_opts one_lane = {1, o->lanes * o->width}; /* a device has one stream: all that are at once share its passes */
    nn_backend *b = NULL;
    sd *model = NULL;
    comm *self = NULL;

    *failed = 0;
    train_on_gpu(cuda);
    int rc = fs_mkdirs(folder, e);
    if (rc == 0)
        rc = comm_self(&self, e);
    for (int i = 0; i < (int)farm->concept_count && rc == 0; i++)
        rc = settle(&at[i], farm, &farm->concepts[i], folder, self, failed, e);
    if (rc == 0)
        rc = nn_open(&b, cuda ? "cuda" : "cpu", 0, e);
    if (rc == 0)
        rc = sd_open(&model, farm->base, b, e);
    if (rc == 0)
        run_all(model, at, (int)farm->concept_count, cuda ? &one_lane : o);
    sd_close(model);
    if (b)
        b->close(b);
    comm_free(self);
    for (int i = 0; i < (int)farm->concept_count; i++)
        free(at[i].settings);
    free(at);
    return rc;
}
