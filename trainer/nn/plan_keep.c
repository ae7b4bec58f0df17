/* A kept result put into a state: by giving the kernel that makes it another place to write, or by a copy. */
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/nn/plan_inside.h"

static bool reads_state(const nn_plan *p, const char *state)
{
    for (int id = 0; id < p->s.nodes; id++)
        if (p->s.alive[id] && plan_node(p, id)->op == &nn_op_state && strcmp(plan_node(p, id)->name, state) == 0)
            return true;
    return false;
}

/* What lies at a root's memory lies at `to` from now on; the calls that touch it are prepared anew. */
static int move_root(nn_plan *p, int root, void *to, err *e)
{
    p->on->release(p->on, p->mem[root]);
    p->s.kept[root] = false;
    for (int id = 0; id < p->s.nodes; id++)
        if (p->s.alive[id] && p->s.root[id] == root)
            p->mem[id] = (char *)to + p->s.offset[id];
    for (int i = 0; i < p->s.step_n; i++) {
        const plan_step *step = &p->s.steps[i];
        bool touched = p->s.root[plan_made(step)->id] == root;
        for (int k = 0; k < PLAN_SOURCES; k++)
            touched = touched || (plan_source(&p->s, step, k) && p->s.root[plan_source(&p->s, step, k)->id] == root);
        if (!touched)
            continue;
        plan_finish_call(p, i);
        TRY(plan_prepare_call(p, i, e));
        CHECK(p->calls[i].scratch_bytes <= p->scratch_bytes);
        p->calls[i].scratch = p->scratch;
    }
    return 0;
}

static int check_kept(const nn_plan *p, nn_tensor kept, const char *state, err *e)
{
    TRY(plan_check_tensor(p, kept, "the tensor kept", (size_t)nn_bytes(kept), e));
    if (kept->type != F32 || !plan_is_readable(p, kept))
        return err_set(e, ERR_INPUT, "%s: only a kept F32 tensor can lie in a state", state);
    return 0;
}

static void copy_late(nn_plan *p, late_copy c)
{
    p->copies = mem_grow(p->copies, (size_t)p->copy_n + 1, sizeof *p->copies);
    p->copies[p->copy_n++] = c;
}

int nn_keep_rows_in(nn_plan *p, nn_tensor kept, int64_t rows, const char *state, size_t offset, size_t apart, err *e)
{
    size_t count = (size_t)(nn_count(kept->shape) / rows), bytes = count * sizeof(float);

    TRY(check_kept(p, kept, state, e));
    for (int64_t r = 0; r < rows; r++) {
        void *to;
        TRY(nn_params_state_place(p->params, state, offset + (size_t)r * apart, count, &to, e));
        copy_late(p, (late_copy){kept, (size_t)r * bytes, bytes, to});
    }
    return 0;
}

int nn_keep_in(nn_plan *p, nn_tensor kept, const char *state, size_t offset, err *e)
{
    size_t count = (size_t)nn_count(kept->shape);
    void *to;

    TRY(check_kept(p, kept, state, e));
    TRY(nn_params_state_place(p->params, state, offset, count, &to, e));
    nn_tensor root = plan_node(p, p->s.root[kept->id]);
    if (p->s.kept[root->id] && nn_bytes(root) == nn_bytes(kept) && !reads_state(p, state)) {
        nn_params_lock(p->params);
        int rc = move_root(p, root->id, to, e);
        nn_params_unlock(p->params);
        return rc;
    }
    copy_late(p, (late_copy){kept, 0, (size_t)nn_bytes(kept), to});
    return 0;
}
