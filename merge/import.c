/* Other programs' files into a concept. Every format is a list of named tensors once it is read; what a tensor is
 * follows from its key. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/export.h"
#include "merge/names.h"
#include "merge/products.h"
#include "merge/torch.h"
#include "trainer/method/shifts.h"

enum { TELL_UNKNOWN = 4, WIDTH_MOST = 1 << 16, VECTORS_MOST = 64 };

typedef struct {
    concept *out;
    int per_level;
    sd *base; /* NULL: factors and shifts are not known */
    char word[256]; /* what an A1111 embedding is called: its file's name */
    products *low;
    str unknown; /* the first keys that mean nothing here */
    size_t n_unknown;
    import_notes *notes; /* NULL: nobody asks for all of them */
} importer;

void import_notes_free(import_notes *n)
{
    str_free(&n->unknown);
    str_free(&n->passed);
}

static void note_unknown(importer *m, const char *key)
{
    if (m->notes)
        str_add(&m->notes->unknown, "%s\n", key);
    if (m->n_unknown++ < TELL_UNKNOWN)
        str_add(&m->unknown, "%s%s", m->unknown.n ? ", " : "", key);
}

static int set_width(concept *c, int64_t width, err *e)
{
    if (width < 1 || width > WIDTH_MOST)
        return err_set(e, ERR_SHAPE, "text features of %lld numbers", (long long)width);
    if (c->width == 0)
        c->width = (int)width;
    return c->width == width
               ? 0
               : err_set(e, ERR_SHAPE, "text features of %lld numbers beside some of %d", (long long)width, c->width);
}

static float *values(const st_tensor *t)
{
    float *x = NEW_N(float, t->count + 1);
    f32_from(x, t->data, t->type, (size_t)t->count);
    return x;
}

static bool is_float(dtype t)
{
    return t == F32 || t == F16 || t == BF16 || t == F64;
}

/* ---- tensors ---- */

static int add_tensor(importer *m, const char *name, const st_tensor *t, err *e)
{
    float *data;
    if (t->n < 1 || t->n > 2)
        return err_set(e, ERR_SHAPE, "%s is neither a matrix nor a vector", name);
    if (concept_find(m->out, name))
        return err_set(e, ERR_INPUT, "%s is there twice", name);
    if (concept_is_kv(name))
        TRY(set_width(m->out, t->n == 2 ? t->d[1] : 0, e));
    data = values(t);
    concept_add_tensor(m->out, name, t->d[0], t->n == 2 ? t->d[1] : 0, data);
    free(data);
    return 0;
}

/* A factor of any number of dimensions (a convolution's counts as a matrix), a shift, an alpha. */
static int add_part(importer *m, const char *name, const st_tensor *t, err *e)
{
    int64_t first = t->n > 0 ? t->d[0] : 1;
    bool vector = t->n <= 1;
    if (concept_find(m->out, name))
        return err_set(e, ERR_INPUT, "%s is there twice", name);
    float *data = values(t);
    concept_tensor *own = concept_add_tensor(m->out, name, first, vector ? 0 : (int64_t)t->count / first, data);
    free(data);
    return str_ends(name, SHIFTS_TAIL) ? shifts_rescale(own, m->base, false, e) : 0;
}

/* [width], or the rows [vectors, width] of one word: "<cat>", "<cat>_1", ... */
static int add_token(importer *m, const char *word, const st_tensor *t, err *e)
{
    int64_t vectors = t->n == 2 ? t->d[0] : 1;
    float *row;
    if (t->n < 1 || t->n > 2 || vectors > VECTORS_MOST)
        return err_set(e, ERR_SHAPE, "token %s has %d dimensions and %lld vectors; a row or up to %d of them are read", word, t->n,
                       (long long)vectors, VECTORS_MOST);
    if (!word[0] || strpbrk(word, " /\t\n"))
        return err_set(e, ERR_INPUT, "\"%.60s\" cannot be a token: no blank and no / may be in it", word);
    for (int i = 0; i < m->out->n_tokens; i++)
        if (strcmp(m->out->tokens[i].word, word) == 0)
            return err_set(e, ERR_INPUT, "token %s is there twice", word);
    TRY(set_width(m->out, t->d[t->n - 1], e));
    row = values(t);
    for (int64_t i = 0; i < vectors; i++) {
        char name[300];
        snprintf(name, sizeof name, i ? "%.280s_%d" : "%.280s", word, (int)i);
        concept_add_token(m->out, name, "", -1, row + i * m->out->width);
    }
    free(row);
    return 0;
}

/* The authors' rows have no names: <new1>, <new2>, ... in order. */
static int add_embed(importer *m, const st_tensor *t, err *e)
{
    if (t->n != 2)
        return err_set(e, ERR_SHAPE, "embed has %d dimensions", t->n);
    for (int64_t i = 0; i < t->d[0]; i++) {
        char word[32];
        st_tensor row = *t;
        row.n = 1;
        row.d[0] = t->d[1];
        row.count = (uint64_t)t->d[1];
        row.data = (const char *)t->data + (size_t)(i * t->d[1]) * dtype_bytes(t->type);
        snprintf(word, sizeof word, "<new%d>", m->out->n_tokens + 1);
        TRY(add_token(m, word, &row, e));
    }
    return 0;
}

static bool is_word(const char *key)
{
    return key[0] == '<' && str_ends(key, ">");
}

/* "KEY/u" and "KEY/v" of a compressed delta: what the weight KEY is called here. */
static bool compressed_name(const importer *m, char name[NAME_ROOM], const char *key)
{
    char whole[NAME_ROOM];
    if (!(str_ends(key, "/u") || str_ends(key, "/v")) || strlen(key) >= NAME_ROOM)
        return false;
    snprintf(whole, sizeof whole, "%.*s", (int)strlen(key) - 2, key);
    if (names_from_compvis(name, whole, m->per_level))
        return true;
    return str_starts(whole, "unet/") && snprintf(name, NAME_ROOM, "%s", whole + strlen("unet/")) > 0;
}

static int add_key(importer *m, const char *key, const st_tensor *t, bool alone, err *e)
{
    char name[NAME_ROOM];
    if (str_starts(key, "state_dict/"))
        key += strlen("state_dict/");
    if (!is_float(t->type))
        note_unknown(m, key);
    else if (m->low && compressed_name(m, name, key))
        return products_put(m->low, name, str_ends(key, "/u"), t, e);
    else if (names_from_processor(name, key) || names_from_compvis(name, key, m->per_level))
        return add_tensor(m, name, t, e);
    else if (str_starts(key, "unet/") && strstr(key, ".attn2.") && (str_ends(key, ".weight") || str_ends(key, ".bias")))
        return add_tensor(m, key + strlen("unet/"), t, e);
    else if (import_lora_key(name, key, m->base))
        return add_part(m, name, t, e);
    else if (str_starts(key, "modifier_token/"))
        return add_token(m, key + strlen("modifier_token/"), t, e);
    else if (strcmp(key, "string_to_param/*") == 0 || strcmp(key, "emb_params") == 0) /* A1111's, kohya's */
        return add_token(m, m->word, t, e);
    else if (strcmp(key, "embed") == 0)
        return add_embed(m, t, e);
    else if (is_word(key) || alone)
        return add_token(m, key, t, e);
    else
        note_unknown(m, key);
    return 0;
}

/* ---- files ---- */

static int read_safetensors(importer *m, const char *path, err *e)
{
    safetensors *f;
    int rc = 0;
    snprintf(m->word, sizeof m->word, "%.*s", (int)strcspn(fs_base(path), "."), fs_base(path));
    TRY(st_open(&f, path, e));
    for (size_t i = 0; rc == 0 && i < st_count(f); i++)
        rc = add_key(m, st_at(f, i)->name, st_at(f, i), st_count(f) == 1, e);
    st_close(f);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

/* What stands beside the rows of an A1111 embedding. */
static bool is_of_a1111(const char *key)
{
    static const char *const known[] = {"string_to_token/*", "name", "step", "sd_checkpoint", "sd_checkpoint_name"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(key, known[i]) == 0)
            return true;
    return false;
}

static int read_torch(importer *m, const char *path, err *e)
{
    torch_file f;
    int rc = 0;
    snprintf(m->word, sizeof m->word, "%.*s", (int)strcspn(fs_base(path), "."), fs_base(path));
    TRY(torch_read(&f, path, e));
    for (size_t i = 0; rc == 0 && i < f.n; i++)
        rc = add_key(m, f.tensor[i].name, &f.tensor[i], f.n == 1, e);
    for (char **at = f.other; at && *at; at++)
        if (!is_of_a1111(*at))
            note_unknown(m, *at);
    torch_free(&f);
    return rc == 0 ? 0 : err_wrap(e, "%s", path);
}

static int read_file(importer *m, const char *path, err *e)
{
    return str_ends(path, ".safetensors") ? read_safetensors(m, path, e) : read_torch(m, path, e);
}

/* Weights as safetensors or, without those, as torch file; then token files (their names begin with '<', or are those
 * of Textual Inversion), each word once, safetensors first. */
static bool is_wanted(const char *name, bool tokens)
{
    bool weights = str_starts(name, "pytorch_custom_diffusion_weights.") || strcmp(name, "delta.bin") == 0 ||
                   str_starts(name, "pytorch_lora_weights.") || strcmp(name, "lora.safetensors") == 0 ||
                   str_starts(name, "spectral_shifts");
    bool token = name[0] == '<' || str_starts(name, "learned_embeds");
    return (tokens ? token : weights) && (str_ends(name, ".safetensors") || str_ends(name, ".bin"));
}

static bool has_sister(char *const names[], size_t n, const char *name)
{
    size_t stem = strlen(name) - strlen(".bin");
    for (size_t i = 0; i < n; i++)
        if (strncmp(names[i], name, stem) == 0 && strcmp(names[i] + stem, ".safetensors") == 0)
            return true;
    return false;
}

static int read_listed(importer *m, const char *dir, char *const names[], size_t n, bool tokens, int *used, err *e)
{
    char path[FS_PATH];
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(names[i], tokens) || (str_ends(names[i], ".bin") && has_sister(names, n, names[i])))
            continue;
        TRY(fs_join(path, dir, names[i], e));
        TRY(read_file(m, path, e));
        ++*used;
    }
    return 0;
}

static int read_dir(importer *m, const char *dir, err *e)
{
    char **names;
    size_t n;
    int rc, used = 0;
    TRY(fs_list(&names, &n, dir, e));
    rc = read_listed(m, dir, names, n, false, &used, e);
    if (rc == 0)
        rc = read_listed(m, dir, names, n, true, &used, e);
    fs_list_free(names);
    if (rc == 0 && used == 0)
        rc = err_set(e, ERR_INPUT,
                     "%s is no model folder and holds no pytorch_custom_diffusion_weights, pytorch_lora_weights, lora, "
                     "spectral_shifts, delta.bin, learned_embeds or <token> file",
                     dir);
    return rc;
}

/* A checkpoint in one file has the words beside it. */
static int read_model(importer *m, const char *path, err *e)
{
    char inside[FS_PATH], **names;
    int used = 0, rc;
    size_t n;
    if (import_is_model(path))
        return import_model(m->out, path, m->base, m->notes, e);
    TRY(fs_join(inside, path, "model.safetensors", e));
    TRY(import_model(m->out, inside, m->base, m->notes, e));
    TRY(fs_list(&names, &n, path, e));
    rc = read_listed(m, path, names, n, true, &used, e);
    fs_list_free(names);
    return rc;
}

static bool holds_model(const char *path)
{
    char inside[FS_PATH];
    return import_is_model(path) ||
           (fs_is_dir(path) && fs_join(inside, path, "model.safetensors", NULL) == 0 && import_is_model(inside));
}

int import_read(concept *out, const char *path, int per_level, sd *base, import_notes *notes, err *e)
{
    importer m = {.out = out, .per_level = per_level, .base = base, .low = base ? products_new(base) : NULL, .notes = notes};
    int rc = base && holds_model(path) ? read_model(&m, path, e)
             : fs_is_dir(path)         ? read_dir(&m, path, e)
                                       : read_file(&m, path, e);
    if (rc == 0 && m.low)
        rc = products_finish(m.low, out, e);
    products_free(m.low);
    if (rc == 0 && m.n_unknown > 0)
        rc = err_set(e, ERR_INPUT, "%s: %zu keys mean nothing here: %s%s", path, m.n_unknown, m.unknown.at,
                     m.n_unknown > TELL_UNKNOWN ? ", ..." : "");
    if (rc == 0)
        import_lora_complete(out);
    str_free(&m.unknown);
    return rc;
}
