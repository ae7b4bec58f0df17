/* Whether a step has room on a device, asked before anything is taken, so that a batch that is too large is refused at once, with
 * passes that would fit. What libraries keep for themselves beside a plan (a context, their handles) is taken already when this is
 * asked. */
#include <stdlib.h>

#include "cluster/base/mem.h"
#include "trainer/step_inside.h"

/* What passes of so many samples take: plan, weights in the layouts of its kernels, and what moves the weights. */
static int weigh(stepper *s, int micro, size_t *bytes, err *e)
{
    const int width = s->opts.width, asked = s->opts.micro;
    nn_tensor *keep = NEW_N(nn_tensor, s->opts.n_moves + STEP_KEEPS);
    nn_plan_size size = {0};
    pass trial = {0};
    int kept;

    s->opts.micro = micro;
    int rc = step_write_grad(s, &trial, s->opts.text == TEXT_SAID, keep, &kept, e);
    if (rc == 0)
        rc = nn_plan_predict(&size, trial.graph, sd_params(s->model), keep, kept, e);
    s->opts.micro = asked;
    *bytes = size.plan + size.weights + (size_t)(width * NN_ADAMW_HYPER) * sizeof(float);
    nn_graph_free(trial.graph);
    free(keep);
    return rc;
}

/* The largest part of the pass that fits, a power of two smaller; 0: none. */
static int largest(stepper *s, size_t left, int *micro, err *e)
{
    size_t bytes;

    for (*micro = s->opts.micro; *micro % 2 == 0;) {
        *micro /= 2;
        TRY(weigh(s, *micro, &bytes, e));
        if (bytes <= left)
            return 0;
    }
    *micro = 0;
    return 0;
}

int step_fits(stepper *s, err *e)
{
    nn_backend *on = nn_params_backend(sd_params(s->model));
    const double mib = 1048576.0;
    size_t left, wants;
    int fits;

    if (!on->left)
        return 0;
    TRY(weigh(s, s->opts.micro, &wants, e));
    TRY(on->left(on, &left, e));
    if (wants <= left)
        return 0;
    TRY(largest(s, left, &fits, e));
    if (fits == 0)
        return err_set(e, ERR_MEMORY,
                       "%s: passes of %d samples want %.1f MiB and %.1f are left for them, and no smaller ones fit; a lower resolution "
                       "or recompute: yes takes less", on->name, s->opts.micro, (double)wants / mib, (double)left / mib);
    return err_set(e, ERR_MEMORY,
                   "%s: passes of %d samples want %.1f MiB and %.1f are left for them; passes of %d fit, with leaves: %d", on->name,
                   s->opts.micro, (double)wants / mib, (double)left / mib, fits, s->opts.batch / fits);
}

int step_traffic(sd *model, comm *gang, const step_opts *opts, nn_traffic **each, int *n, nn_plan_size *size, nn_graph **graph, nn_tensor *losses, err *e)
{
    nn_tensor *keep = NEW_N(nn_tensor, opts->n_moves + STEP_KEEPS);
    pass trial = {0};
    stepper *s;
    int kept, rc = step_new_bare(&s, model, gang, opts, e);

    if (rc == 0)
        rc = step_write_grad(s, &trial, s->opts.text == TEXT_SAID, keep, &kept, e);
    if (rc == 0)
        rc = nn_plan_traffic(each, n, size, trial.graph, sd_params(model), keep, kept, e);
    *graph = trial.graph;
    *losses = trial.losses;
    step_free(s);
    free(keep);
    return rc;
}
