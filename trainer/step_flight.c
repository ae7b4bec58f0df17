/* Steps that nobody waits for: on a GPU a step is one captured graph, forward and backward pass, the gang's sum, clipping, AdamW.
 * The host makes the samples of the next one meanwhile, which cross beside it; what a step has to tell (losses, norm, who would
 * stop) goes into a row of a ring of pinned memory, and is looked at every few steps.
 *
 * So what the host decides elsewhere between passes is decided on the device here: the clipping, and that a concept whose loss
 * is no number does not move (nn_clip). In a gang the gradient is summed in pieces, each as soon as the backward pass has made it,
 * in the order in which it does; losses and the words of the ranks are a last piece. A rank whose sample cannot be
 * made goes on with zeros and says so there; all of them then end together when the steps are told. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "trainer/step_inside.h"

/* Pieces of a gang's sum: with four the last of the UNet's, which nothing hides, is a quarter; and what is small is not cut up. */
enum { PIECES_MOST = 4, PIECE_LEAST = 1 << 14 };
enum { FLAG_STOP, FLAG_FAILED, FLAGS };

typedef struct { const stepper *of; float *mem; size_t n; dtype as; int ready; } piece; /* ready: after this call of the pass */

struct flight {
    nn_backend *on;
    char state[32];              /* "train.told", in nn_params: losses [width, batch], then flags */
    size_t losses;               /* of them */
    nn_graph *graph;             /* what moves the weights: norms, clipping, AdamW */
    nn_plan *finish;
    nn_tensor hyper, norm2, told;
    piece pieces[PIECES_MOST + 2]; /* the text encoder's and the words beside them */
    int piece_n;
    float *ring, *seat;          /* ring: pinned rows of losses, flags, norms; seat: which rank's losses these are */
    bool stop[STEP_AHEAD];       /* this rank's wish, where it has no gang */
    int begun;                   /* and not told of yet */
};

static size_t row_of(const stepper *s) { return s->flight->losses + FLAGS + (size_t)s->opts.width; }

static bool joined(const stepper *s) { return comm_size(s->gang) > 1; }

/* One pass a rank, whose sum never leaves the devices. */
static bool can_fly(const stepper *s)
{
    const nn_backend *on = nn_params_backend(sd_params(s->model));

    return on->crossing && on->lanes <= 1 && s->opts.batch / s->opts.micro == comm_size(s->gang)
           && (!joined(s) || comm_joins_devices(s->gang));
}

int flight_new(stepper *s, err *e)
{
    nn_params *p = sd_params(s->model);

    if (!can_fly(s))
        return 0;
    flight *f = s->flight = NEW(flight);
    f->on = nn_params_backend(p);
    f->losses = (size_t)(s->opts.width * s->opts.batch);
    f->seat = NEW_N(float, comm_size(s->gang));
    f->seat[comm_rank(s->gang)] = 1;
    snprintf(f->state, sizeof f->state, "train.told%d", s->opts.first);
    TRY(nn_params_state(p, f->state, NN_SHAPE((int64_t)f->losses + FLAGS), e));
    return f->on->crossing->pin(f->on, (void **)&f->ring, STEP_AHEAD * row_of(s) * sizeof(float), e);
}

void flight_free(flight *f)
{
    if (!f)
        return;
    nn_plan_free(f->finish);
    nn_graph_free(f->graph);
    f->on->crossing->unpin(f->on, f->ring);
    free(f->seat);
    free(f);
}

size_t flight_bytes(const flight *f) { return nn_plan_bytes(f->finish); }

/* ---- what a pass tells ---- */

/* Alone its losses are all there are. In a gang each rank has its own in its place among zeros, so that their sum has all. */
int flight_keeps(const stepper *s, pass *p, nn_tensor keep[2])
{
    int64_t size = comm_size(s->gang), micro = s->opts.micro;
    nn_graph *g = p->graph;

    if (!joined(s))
        return 0;
    p->in.seat = nn_input(g, "seat", F32, NN_SHAPE(size, 1));
    p->in.flags = nn_input(g, "flags", F32, NN_SHAPE(FLAGS));
    keep[0] = nn_mul(g, nn_expand(g, nn_reshape(g, p->losses, NN_SHAPE(1, micro)), NN_SHAPE(size, micro)), p->in.seat);
    keep[1] = p->in.flags;
    p->spread = keep[0];
    return 2;
}

int flight_lands(const stepper *s, const pass *p, err *e)
{
    const flight *f = s->flight;

    if (!joined(s))
        return nn_keep_in(p->plan, p->losses, f->state, 0, e);
    TRY(nn_keep_in(p->plan, p->spread, f->state, 0, e));
    return nn_keep_in(p->plan, p->in.flags, f->state, f->losses, e);
}

/* ---- what moves the weights ---- */

static nn_tensor write_norms(nn_graph *g, const stepper *s)
{
    nn_tensor all = NULL;

    for (int i = 0; i < s->opts.width; i++) {
        nn_tensor one = nn_sum_squares(g, step_part_of(g, s, "train.g", (int64_t)s->weights, i, 1));
        all = all ? nn_concat(g, all, one) : one;
    }
    return all;
}

/* Gradient and moments as they lie; hyper has in the scale's place the most that the norm may be. */
static void write_finish(flight *f, const stepper *s)
{
    nn_graph *g = f->graph = nn_graph_new();
    int width = s->opts.width;
    int64_t n = (int64_t)s->weights;

    f->hyper = nn_input(g, "hyper", F32, NN_SHAPE(width, NN_ADAMW_HYPER));
    f->told = nn_state(g, f->state, NN_SHAPE((int64_t)f->losses + FLAGS));
    f->norm2 = write_norms(g, s);
    nn_tensor losses = nn_view(g, f->told, 0, NN_SHAPE(width, s->opts.batch));
    nn_adamw(g, step_part_of(g, s, "train.w", n, 0, width), step_part_of(g, s, "train.m", n, 0, width),
             step_part_of(g, s, "train.v", n, 0, width), step_part_of(g, s, "train.g", n, 0, width),
             nn_clip(g, f->hyper, f->norm2, losses), NULL);
}

/* ---- a gang's sum in pieces ---- */

static int begin_piece(void *arg, err *e)
{
    const piece *p = arg;

    return comm_begin_sum(p->of->gang, p->mem, p->n, p->as, e);
}

static int end_pieces(void *arg, err *e)
{
    return comm_end_sums(((const stepper *)arg)->gang, e);
}

static bool is_of_text(const char *name) { return str_starts(name, "text_encoder."); }

/* Where a trained tensor begins is a good place to cut. The text encoder's part is a piece for itself: the backward pass comes to
 * it last, wherever it lies. */
static int cut_gradient(stepper *s, float *mem, err *e)
{
    flight *f = s->flight;
    const char *const *moves = s->opts.moves;
    size_t least = s->weights / PIECES_MOST > PIECE_LEAST ? s->weights / PIECES_MOST : PIECE_LEAST, end = s->weights;

    for (int i = s->opts.n_moves - 1; i >= 0; i--) {
        size_t at, count;
        bool last = i == 0, parts = !last && is_of_text(moves[i]) != is_of_text(moves[i - 1]);
        TRY(nn_params_trained_at(sd_params(s->model), moves[i], &at, &count, e));
        if (!last && !parts && (end - at < least || f->piece_n >= PIECES_MOST - 1))
            continue;
        CHECK(f->piece_n < PIECES_MOST + 1);
        int ready = nn_plan_ready(s->grad.plan, mem + at, (end - at) * sizeof *mem);
        f->pieces[f->piece_n++] = (piece){s, mem + at, end - at, s->opts.sums_in, ready};
        end = at;
    }
    return 0;
}

/* In the order in which the backward pass makes them; the same on all ranks, as their plans are. */
static int by_readiness(const void *pa, const void *pb)
{
    const piece *a = pa, *b = pb;

    return a->ready != b->ready ? (a->ready < b->ready ? -1 : 1) : a->mem < b->mem ? 1 : -1;
}

static int plan_pieces(stepper *s, err *e)
{
    nn_params *p = sd_params(s->model);
    flight *f = s->flight;
    size_t words = f->losses + FLAGS;
    void *g, *told;

    if (!joined(s))
        return 0;
    TRY(nn_params_state_place(p, "train.g", 0, s->weights, &g, e));
    TRY(nn_params_state_place(p, f->state, 0, words, &told, e));
    TRY(cut_gradient(s, g, e));
    qsort(f->pieces, (size_t)f->piece_n, sizeof *f->pieces, by_readiness);
    f->pieces[f->piece_n++] = (piece){s, told, words, F32, 0};
    return 0;
}

int flight_plan(stepper *s, err *e)
{
    flight *f = s->flight;

    TRY(plan_pieces(s, e));
    write_finish(f, s);
    return nn_plan_new(&f->finish, f->graph, sd_params(s->model), &f->norm2, 1, e);
}

static int make_chain(stepper *s, pass *of, err *e)
{
    flight *f = s->flight;

    TRY(nn_chain_new(&of->chain, (nn_plan *[]){of->plan, f->finish}, 2, e));
    for (int i = 0; i < f->piece_n; i++)
        nn_chain_when(of->chain, 0, f->pieces[i].mem, f->pieces[i].n * sizeof(float), begin_piece, &f->pieces[i]);
    if (f->piece_n > 0) {
        const piece *last = &f->pieces[f->piece_n - 1];
        nn_chain_when(of->chain, 0, last->mem, last->n * sizeof(float), end_pieces, s);
    }
    return 0;
}

/* ---- a step ---- */

static int write_rest(stepper *s, const pass *of, const step_turn turns[], err *e)
{
    const flight *f = s->flight;
    int width = s->opts.width;
    float *hyper = NEW_N(float, width * NN_ADAMW_HYPER), flags[FLAGS] = {s->stop, turns->why.code != ERR_NONE};
    int rc = 0;

    for (int i = 0; i < width; i++) {
        step_set_hyper(&turns[i], hyper + i * NN_ADAMW_HYPER);
        hyper[i * NN_ADAMW_HYPER + ADAMW_GRAD_SCALE] = (float)turns[i].how.clip;
    }
    rc = nn_chain_write(of->chain, 1, f->hyper, hyper, (size_t)(width * NN_ADAMW_HYPER) * sizeof *hyper, e);
    if (rc == 0 && joined(s))
        rc = nn_chain_write(of->chain, 0, of->in.seat, f->seat, (size_t)comm_size(s->gang) * sizeof *f->seat, e);
    if (rc == 0 && joined(s))
        rc = nn_chain_write(of->chain, 0, of->in.flags, flags, sizeof flags, e);
    free(hyper);
    return rc;
}

int flight_begin(stepper *s, step_turn turns[], err *e)
{
    flight *f = s->flight;
    size_t words = f->losses + FLAGS;
    pass *of;

    CHECK(f->begun < STEP_AHEAD);
    float *row = f->ring + (size_t)f->begun * row_of(s);
    TRY(step_make_pass(s, comm_rank(s->gang) * s->opts.micro, turns, &of, e));
    if (!of->chain)
        TRY(make_chain(s, of, e));
    TRY(step_write_pass(s, of, e));
    TRY(write_rest(s, of, turns, e));
    TRY(nn_chain_start(of->chain, e));
    TRY(nn_tell(f->finish, f->told, row, words * sizeof *row, e));
    TRY(nn_tell(f->finish, f->norm2, row + words, (size_t)s->opts.width * sizeof *row, e));
    step_decay_tables(s, turns);
    f->stop[f->begun++] = s->stop;
    return 0;
}

/* ---- telling ---- */

static int tell_step(const stepper *s, step_turn turns[], const float *row, bool stop, err *e)
{
    const flight *f = s->flight;
    const float *flags = row + f->losses, *norms = flags + FLAGS;

    if (joined(s) && flags[FLAG_FAILED] > 0)
        return comm_agree(s->gang, &turns->why, e);
    for (int i = 0; i < s->opts.width; i++) {
        step_result *r = &turns[i].result;
        *r = (step_result){.losses = row + i * s->opts.batch, .grad_norm = sqrt((double)norms[i]),
                           .stop = joined(s) ? flags[FLAG_STOP] > 0 : stop};
        for (int k = 0; k < s->opts.batch; k++)
            r->loss += (double)r->losses[k];
        step_judge_numbers(&turns[i]);
    }
    return 0;
}

int flight_tell(stepper *s, step_turn turns[], int n, err *e)
{
    flight *f = s->flight;

    CHECK(n == f->begun);
    f->begun = 0;
    TRY(joined(s) ? comm_wait_devices(s->gang, e) : f->on->wait(f->on, e));
    for (int k = 0; k < n; k++)
        TRY(tell_step(s, turns + k * s->opts.width, f->ring + (size_t)k * row_of(s), f->stop[k], e));
    return 0;
}

void flight_describe(const stepper *s, str *to)
{
    const flight *f = s->flight;
    size_t bytes = 0;

    str_add(to, "a step is one graph on %s, its losses read every %d steps", f->on->name, s->opts.width > 1 ? 1 : STEP_AHEAD);
    for (int i = 0; i < f->piece_n; i++)
        bytes += f->pieces[i].n * (f->pieces[i].as == BF16 ? 2 : 4);
    if (joined(s))
        str_add(to, "; %d GPUs add %.3f MB a step in %s, %d pieces beside the backward pass", comm_size(s->gang), (double)bytes / 1e6,
                s->opts.sums_in == BF16 ? "bf16" : "f32", f->piece_n - 1);
}
