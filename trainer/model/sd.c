/* An open model: its weights by name, what is put in their place, and what it is known by. */
#include "trainer/model/sd.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/concept.h"
#include "trainer/model/sd_impl.h"
#include "trainer/model/shapes.h"
#include "trainer/nn/node.h"

/* ---- opening ---- */

static int add_files(sd *m, err *e)
{
    for (sd_part p = 0; p < SD_PARTS; p++) {
        str prefix = {0};

        str_add(&prefix, "%s.", sd_part_scope(p));
        int rc = nn_params_add_file(m->params, m->files.file[p], prefix.at, e);
        str_free(&prefix);
        TRY(rc);
    }
    return 0;
}

static bool is_kv(const char *name)
{
    return str_ends(name, ".attn2.to_k.weight") || str_ends(name, ".attn2.to_v.weight");
}

/* The order in which the UNet's graph asks for them. */
static void list_kv(sd *m)
{
    const unet_shape *u = &m->files.unet;
    nn_graph *g = nn_graph_new();
    size_t n = 0;

    sd_unet_write(g, m, nn_input(g, "x", F32, NN_SHAPE(1, 1, 1, u->in)), nn_input(g, "t", F32, NN_SHAPE(1)),
                  nn_input(g, "text", F32, NN_SHAPE(1, 1, u->text_width)), false);
    for (int i = 0; i < nn_node_count(g); i++) {
        nn_tensor t = nn_node_at(g, i);

        if (t->op != &nn_op_param || !is_kv(t->name))
            continue;
        m->kv = mem_grow(m->kv, n + 2, sizeof *m->kv);
        m->kv[n++] = mem_text(t->name);
        m->kv[n] = NULL;
    }
    nn_graph_free(g);
}

int sd_open(sd **out, const char *dir, nn_backend *b, err *e)
{
    sd *m = NEW(sd);

    CHECK(pthread_mutex_init(&m->text, NULL) == 0);
    int rc = sd_files_open(&m->files, dir, e);

    if (rc == 0) {
        m->params = nn_params_new(b);
        rc = add_files(m, e);
    }
    if (rc != 0) {
        sd_close(m);
        return rc;
    }
    list_kv(m);
    *out = m;
    return 0;
}

/* Every weight that the parts' graphs ask for. */
static int draw_files(sd *m, err *e)
{
    for (sd_part p = 0; p < SD_PARTS; p++) {
        nn_graph *g = nn_graph_new();
        sd_files_write(g, &m->files, p);
        int rc = nn_check(g, e);
        for (int i = 0; i < nn_node_count(g) && rc == 0; i++)
            if (nn_node_at(g, i)->op == &nn_op_param)
                rc = nn_params_add_drawn(m->params, nn_node_at(g, i)->name, nn_shape_get(nn_node_at(g, i)), e);
        nn_graph_free(g);
        TRY(rc);
    }
    return 0;
}

int sd_open_named(sd **out, const char *shape, nn_backend *b, err *e)
{
    if (!shape_config(shape, "unet"))
        return err_set(e, ERR_INPUT, "%s is neither a model's folder nor a shape", shape);
    sd *m = NEW(sd);

    CHECK(pthread_mutex_init(&m->text, NULL) == 0);
    int rc = sd_files_named(&m->files, shape, e);

    if (rc == 0) {
        m->params = nn_params_new(b);
        rc = draw_files(m, e);
    }
    if (rc != 0) {
        sd_close(m);
        return rc;
    }
    list_kv(m);
    *out = m;
    return 0;
}

void sd_close(sd *m)
{
    if (!m)
        return;
    sd_forget_plans(m);
    nn_params_free(m->params);
    for (size_t i = 0; m->kv && m->kv[i]; i++)
        free(m->kv[i]);
    free(m->kv);
    tokenizer_close(m->words);
    sd_files_close(&m->files);
    pthread_mutex_destroy(&m->text);
    free(m);
}

int sd_words(tokenizer **out, sd *m, err *e)
{
    char dir[FS_PATH];

    if (!m->words) {
        TRY(sd_path(dir, m->files.dir, "tokenizer", e));
        TRY(tokenizer_open(&m->words, dir, e));
    }
    *out = tokenizer_like(m->words);
    return 0;
}

/* ---- what it is ---- */

const char *sd_dir(const sd *m) { return m->files.dir; }
bool sd_is_single(const sd *m) { return m->files.single != NULL; }
const safetensors *sd_file(const sd *m, sd_part p) { return m->files.file[p]; }
nn_params *sd_params(sd *m) { return m->params; }
const unet_shape *sd_unet_shape(const sd *m) { return &m->files.unet; }
const clip_shape *sd_text_shape(const sd *m) { return &m->files.text; }
const vae_shape *sd_vae_shape(const sd *m) { return &m->files.vae; }
const schedule *sd_schedule(const sd *m) { return &m->files.noise; }
int sd_latent_channels(const sd *m) { return m->files.vae.latent; }

int sd_side(const sd *m)
{
    const int *sample = m->files.unet.sample;

    return (sample[0] < sample[1] ? sample[0] : sample[1]) * vae_factor(&m->files.vae);
}

int sd_text_rows(const sd *m) { return m->modifiers; }

const char *sd_kv_name(const sd *m, size_t i)
{
    for (size_t k = 0; m->kv && m->kv[k]; k++)
        if (k == i)
            return m->kv[k];
    return NULL;
}

/* The file's own values where they are f32 and lie as floats do; else a copy that the caller frees. */
static int floats_of(const safetensors *f, const st_tensor *t, concept_tensor *to, bool *copied, err *e)
{
    *copied = t->type != F32 || (uintptr_t)t->data % sizeof(float) != 0;
    *to = (concept_tensor){.name = (char *)(uintptr_t)t->name, .rows = t->d[0], .cols = t->d[1]};
    to->data = *copied ? NEW_N(float, t->count) : (float *)(uintptr_t)t->data;
    return *copied ? st_read_f32(f, t->name, to->data, t->count, e) : 0;
}

int sd_fingerprint(const sd *m, char hex[HASH_HEX], err *e)
{
    const safetensors *f = m->files.file[SD_UNET];
    size_t skip = strlen(sd_part_scope(SD_UNET)) + 1, n = 0, done = 0;
    int rc = 0;

    while (m->kv && m->kv[n])
        n++;
    concept_tensor *kv = NEW_N(concept_tensor, n + 1);
    bool *copied = NEW_N(bool, n + 1);
    for (; rc == 0 && done < n; done++)
        rc = floats_of(f, st_find(f, m->kv[done] + skip), &kv[done], &copied[done], e);
    concept_fingerprint(kv, (int)done, hex);
    for (size_t i = 0; i < done; i++)
        if (copied[i])
            free(kv[i].data);
    free(kv);
    free(copied);
    return rc;
}

/* ---- weights as the file has them ---- */

static const st_tensor *in_file(const sd *m, const char *name)
{
    for (sd_part p = 0; p < SD_PARTS; p++) {
        size_t n = strlen(sd_part_scope(p));
        if (strncmp(name, sd_part_scope(p), n) == 0 && name[n] == '.')
            return st_find(m->files.file[p], name + n + 1);
    }
    return NULL;
}

static pthread_mutex_t digests = PTHREAD_MUTEX_INITIALIZER;

int sd_digest(sd *m, const char *part, char hex[HASH_HEX], err *e)
{
    for (int p = 0; p < SD_PARTS; p++) {
        if (strcmp(sd_part_scope((sd_part)p), part) != 0)
            continue;
        pthread_mutex_lock(&digests);
        int rc = m->digest[p][0] ? 0 : hash_file(st_path(m->files.file[p]), m->digest[p], e);
        memcpy(hex, m->digest[p], HASH_HEX);
        pthread_mutex_unlock(&digests);
        return rc;
    }
    CHECK(false);
    return 0;
}

int sd_file_shape(const sd *m, const char *name, nn_shape *out, err *e)
{
    const st_tensor *t = m->files.named ? NULL : in_file(m, name);

    if (!t || t->n > NN_MAX_DIM)
        return err_set(e, ERR_INPUT, "%s: the model has no such weight", name);
    *out = (nn_shape){.n = t->n};
    memcpy(out->d, t->d, (size_t)t->n * sizeof t->d[0]);
    return 0;
}

int sd_file_read(const sd *m, const char *name, float *out, size_t count, err *e)
{
    const st_tensor *t = m->files.named ? NULL : in_file(m, name);

    if (!t || t->count != count)
        return err_set(e, ERR_SHAPE, "%s: %zu numbers where the file has %llu", name, count,
                       t ? (unsigned long long)t->count : 0ULL);
    f32_from(out, t->data, t->type, count);
    return 0;
}

/* ---- other weights in their place ---- */

int sd_text_rows_set(sd *m, const float *rows, int n, err *e)
{
    bool same = n == m->modifiers && (n == 0 || nn_params_is_trained(m->params, SD_MODIFIER));

    if (!same) /* a trained table stays where plans read it */
        sd_forget_plans(m);
    if (n > 0)
        TRY(nn_params_set(m->params, SD_MODIFIER, NN_SHAPE(n, m->files.text.width), rows, e));
    if (n != m->modifiers) /* others may be writing graphs of a pack */
        m->modifiers = n;
    return 0;
}

int sd_text_row(sd *m, int32_t id, float *row, err *e)
{
    const clip_shape *c = &m->files.text;
    size_t width = (size_t)c->width;

    if (id < 0 || id >= c->vocab + m->modifiers)
        return err_set(e, ERR_INPUT, "token id %d where the text encoder has %d", (int)id, c->vocab + m->modifiers);
    if (id < c->vocab && !m->files.named) {
        const st_tensor *t = st_find(m->files.file[SD_TEXT], "text_model.embeddings.token_embedding.weight");
        const char *at = (const char *)t->data + (size_t)id * width * dtype_bytes(t->type);
        f32_from(row, at, t->type, width);
        return 0;
    }
    bool frozen = id < c->vocab;
    size_t count = (size_t)(frozen ? c->vocab : m->modifiers) * width;
    float *all = NEW_N(float, count);
    int rc = nn_params_get(m->params, frozen ? "text_encoder.text_model.embeddings.token_embedding.weight" : SD_MODIFIER, all,
                           count, e);
    memcpy(row, all + (size_t)(id - (frozen ? 0 : c->vocab)) * width, width * sizeof *row);
    free(all);
    return rc;
}

int sd_override(sd *m, const char *name, const float *data, size_t count, err *e)
{
    nn_shape s;
    char text[64];

    TRY(nn_params_shape(m->params, name, &s, e));
    if ((size_t)nn_count(s) != count)
        return err_set(e, ERR_SHAPE, "%s: %zu numbers where the model has %s", name, count, nn_shape_text(s, text));
    sd_forget_plans(m);
    return nn_params_set(m->params, name, s, data, e);
}

void sd_beside_set(sd *m, int width)
{
    sd_forget_plans(m);
    m->beside = width;
}

int sd_beside(const sd *m) { return m->beside; }

void sd_restore(sd *m)
{
    sd_forget_plans(m);
    nn_params_reset(m->params);
    m->modifiers = 0;
    m->beside = 0;
}

/* ---- graphs ---- */

nn_tensor sd_text_write(nn_graph *g, const sd *m, nn_tensor ids, nn_tensor scale)
{
    nn_enter(g, "%s", sd_part_scope(SD_TEXT));
    nn_tensor y = clip_write(g, &m->files.text, ids, m->modifiers, scale);
    nn_leave(g);
    return y;
}

nn_tensor sd_unet_write(nn_graph *g, const sd *m, nn_tensor x, nn_tensor t, nn_tensor text, bool detach_first)
{
    nn_enter(g, "%s", sd_part_scope(SD_UNET));
    nn_tensor y = unet_write(g, &m->files.unet, x, t, text, detach_first);
    nn_leave(g);
    return y;
}
