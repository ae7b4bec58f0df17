/* Formats that hold a concept as it is: diffusers' and the authors'. Each is one row of the table at the end. */
#include "merge/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "merge/names.h"
#include "trainer/method/method.h"

static int multiply(concept *full, const concept *c, const sd *base, err *e)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < c->factors.matrices; i++) {
        const concept_matrix *m = &c->factors.matrix[i];
        concept_tensor *t = concept_add_tensor(full, m->name, m->rows, c->width, NULL);
        float *w0 = NEW_N(float, (size_t)m->rows *(size_t)c->width);
        char name[NAME_ROOM];
        bool changed;
        snprintf(name, sizeof name, "unet.%s", m->name);
        rc = sd_file_read(base, name, w0, (size_t)m->rows * (size_t)c->width, e);
        if (rc == 0)
            rc = concept_weight(c, m->name, w0, m->rows, c->width, t->data, &changed, e);
        free(w0);
    }
    return rc;
}

static void take_tensors(concept *c, concept *from)
{
    concept old = {.tensors = c->tensors, .n_tensors = c->n_tensors};
    c->tensors = from->tensors;
    c->n_tensors = from->n_tensors;
    concept_free(&old);
}

bool export_needs_base(const concept *c)
{
    const method *by = method_find(c->method);
    return (by && by->whole) || (c->n_tensors == 0 && c->factors.rank > 0);
}

int export_full(concept *c, const sd *base, err *e)
{
    const method *by = method_find(c->method);
    concept full = {0};
    int rc = 0;
    if (by && by->whole)
        rc = by->whole(&full, c, base, e);
    else if (c->n_tensors > 0 || c->factors.rank == 0)
        return 0;
    else
        rc = multiply(&full, c, base, e);
    if (rc == 0)
        take_tensors(c, &full);
    else
        concept_free(&full);
    return rc;
}

/* ---- lists of tensors for a writer ---- */

typedef struct {
    st_tensor *at;
    char **name;
    size_t n;
} tensor_list;

static void push(tensor_list *l, const char *name, int dims, int64_t a, int64_t b, const float *data)
{
    l->at = mem_grow(l->at, l->n + 1, sizeof *l->at);
    l->name = mem_grow(l->name, l->n + 1, sizeof *l->name);
    l->name[l->n] = mem_text(name);
    l->at[l->n] = (st_tensor){.name = l->name[l->n],
                              .type = F32,
                              .n = dims,
                              .d = {a, dims > 1 ? b : 0},
                              .count = (uint64_t)(a * (dims > 1 ? b : 1)),
                              .data = data};
    l->n++;
}

static void free_list(tensor_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->name[i]);
    free(l->name);
    free(l->at);
}

static void push_tensor(tensor_list *l, const char *name, const concept_tensor *t)
{
    push(l, name, t->cols ? 2 : 1, t->rows, t->cols, t->data);
}

static int no_name(const char *name, const char *format, err *e)
{
    return err_set(e, ERR_INPUT, "%s has no place in the format %s; --format model takes everything", name, format);
}

/* ---- where it comes from ---- */

const char *const export_provenance[] = {"base_fingerprint", "method", "recipe", NULL};

void export_provenance_of(const concept *c, const char *values[EXPORT_PROVENANCE + 1])
{
    const char *const all[] = {c->base, c->method, c->recipe};
    for (int i = 0; i < EXPORT_PROVENANCE; i++)
        values[i] = all[i] ? all[i] : "";
    values[EXPORT_PROVENANCE] = NULL;
}

int export_torch(const char *path, const st_tensor tensor[], size_t n, const torch_plain plain[], size_t plains, const concept *c,
                 err *e)
{
    const char *values[EXPORT_PROVENANCE + 1];
    json_t *o = json_object();
    char *note;
    int rc;
    export_provenance_of(c, values);
    for (int i = 0; i < EXPORT_PROVENANCE; i++)
        json_object_set_new(o, export_provenance[i], json_string(values[i]));
    note = json_dumps(o, JSON_COMPACT);
    rc = note ? torch_write_with(path, tensor, n, plain, plains, note, e) : err_set(e, ERR_INPUT, "its recipe is no text");
    json_decref(o);
    free(note);
    return rc;
}

/* ---- diffusers: pytorch_custom_diffusion_weights.safetensors and <new1>.safetensors ---- */

static int write_list(const char *path, const st_tensor at[], size_t n, const concept *c, err *e)
{
    const char *values[EXPORT_PROVENANCE + 1];
    export_provenance_of(c, values);
    return st_write(path, at, n, export_provenance, values, e);
}

static int list_processors(tensor_list *l, const concept *c, err *e)
{
    char name[NAME_ROOM];
    for (int i = 0; i < c->n_tensors; i++) {
        if (!names_to_processor(name, c->tensors[i].name))
            return no_name(c->tensors[i].name, "diffusers", e);
        push_tensor(l, name, &c->tensors[i]);
    }
    return 0;
}

int export_tokens(const concept *c, const char *dir, bool flat, err *e)
{
    char path[FS_PATH], name[300];
    for (int i = 0; i < c->n_tokens; i++) {
        const concept_token *t = &c->tokens[i];
        st_tensor row = {.name = t->word,
                         .type = F32,
                         .n = flat ? 1 : 2,
                         .d = {flat ? c->width : 1, flat ? 0 : c->width},
                         .count = (uint64_t)c->width,
                         .data = t->row};
        snprintf(name, sizeof name, "%.255s.safetensors", t->word);
        TRY(fs_join(path, dir, name, e));
        TRY(write_list(path, &row, 1, c, e));
    }
    return 0;
}

static int write_diffusers(const export_job *j, err *e)
{
    tensor_list l = {0};
    char path[FS_PATH];
    int rc = list_processors(&l, j->c, e);
    if (rc == 0)
        rc = fs_mkdirs(j->out, e);
    if (rc == 0)
        rc = fs_join(path, j->out, "pytorch_custom_diffusion_weights.safetensors", e);
    if (rc == 0)
        rc = write_list(path, l.at, l.n, j->c, e);
    if (rc == 0)
        rc = export_tokens(j->c, j->out, true, e);
    free_list(&l);
    return rc;
}

/* A processor that does nothing for the self-attention beside each cross-attention: diffusers wants one for every
 * attention of the UNet, and only a torch file can hold an empty one. */
static size_t idle_processors(torch_plain **out, const concept *c)
{
    static const char tail[] = ".attn2.to_k.weight";
    size_t n = 0;
    *out = NEW_N(torch_plain, c->n_tensors + 1);
    for (int i = 0; i < c->n_tensors; i++) {
        str name = {0};
        if (!str_ends(c->tensors[i].name, tail))
            continue;
        str_add(&name, "%.*s.attn1.processor", (int)(strlen(c->tensors[i].name) - strlen(tail)), c->tensors[i].name);
        (*out)[n++] = (torch_plain){.name = name.at, .empty = true};
    }
    return n;
}

static int write_diffusers_bin(const export_job *j, err *e)
{
    tensor_list l = {0};
    torch_plain *idle;
    char path[FS_PATH], name[300];
    size_t n = idle_processors(&idle, j->c);
    int rc = list_processors(&l, j->c, e);
    if (rc == 0)
        rc = fs_mkdirs(j->out, e);
    if (rc == 0)
        rc = fs_join(path, j->out, "pytorch_custom_diffusion_weights.bin", e);
    if (rc == 0)
        rc = export_torch(path, l.at, l.n, idle, n, j->c, e);
    for (size_t i = 0; i < n; i++)
        free((char *)(uintptr_t)idle[i].name);
    free(idle);
    free_list(&l);
    for (int i = 0; rc == 0 && i < j->c->n_tokens; i++) {
        tensor_list one = {0};
        push(&one, j->c->tokens[i].word, 1, j->c->width, 0, j->c->tokens[i].row);
        snprintf(name, sizeof name, "%.255s.bin", j->c->tokens[i].word);
        rc = fs_join(path, j->out, name, e);
        if (rc == 0)
            rc = export_torch(path, one.at, one.n, NULL, 0, j->c, e);
        free_list(&one);
    }
    return rc;
}

/* ---- Textual Inversion ---- */

/* How many tokens from i on are one word's rows: "<cat>", "<cat>_1", "<cat>_2". */
static int vectors_of(const concept *c, int i)
{
    size_t n = strlen(c->tokens[i].word);
    int more = 1;
    char tail[16];
    for (; i + more < c->n_tokens; more++) {
        const char *word = c->tokens[i + more].word;
        snprintf(tail, sizeof tail, "_%d", more);
        if (strncmp(word, c->tokens[i].word, n) != 0 || strcmp(word + n, tail) != 0)
            break;
    }
    return more;
}

typedef int vectors_writer(const char *dir, const concept *c, const st_tensor *all, err *e);

static int write_vectors(const char *dir, const concept *c, int first, int n, vectors_writer *as, err *e)
{
    size_t width = (size_t)c->width;
    float *rows = NEW_N(float, (size_t)n *width);
    st_tensor all = {.name = c->tokens[first].word,
                     .type = F32,
                     .n = 2,
                     .d = {n, c->width},
                     .count = (uint64_t)n * (uint64_t)width,
                     .data = rows};
    for (int k = 0; k < n; k++)
        memcpy(rows + (size_t)k * width, c->tokens[first + k].row, width * sizeof *rows);
    int rc = as(dir, c, &all, e);
    free(rows);
    return rc;
}

/* learned_embeds.safetensors = {"<cat>": [vectors, width]}; where there are several words, one such file each. */
static int vectors_as_diffusers(const char *dir, const concept *c, const st_tensor *all, err *e)
{
    bool one = all->d[0] == c->n_tokens;
    char path[FS_PATH], name[300];
    snprintf(name, sizeof name, "learned_embeds%s%.250s.safetensors", one ? "" : "-", one ? "" : all->name);
    TRY(fs_join(path, dir, name, e));
    return write_list(path, all, 1, c, e);
}

/* A1111's own: {"string_to_token": {"*": 265}, "string_to_param": {"*": [vectors, width]}, "name", "step"} in cat.pt; the
 * file's name is what calls it there, so the word's < and > stay out of it. */
static int vectors_as_a1111(const char *dir, const concept *c, const st_tensor *all, err *e)
{
    enum { STAR = 265 }; /* the token of "*" in CLIP's vocabulary */
    char path[FS_PATH], word[260], name[270];
    size_t n = strlen(all->name);
    st_tensor rows = *all;
    bool marked = n > 2 && all->name[0] == '<' && all->name[n - 1] == '>';
    snprintf(word, sizeof word, "%.*s", (int)(marked ? n - 2 : n), all->name + marked);
    snprintf(name, sizeof name, "%s.pt", word);
    rows.name = "string_to_param/*";
    torch_plain more[] = {{.name = "string_to_token/*", .number = STAR}, {.name = "name", .text = word}, {.name = "step", .number = c->history.n}};
    TRY(fs_join(path, dir, name, e));
    return export_torch(path, &rows, 1, more, sizeof more / sizeof *more, c, e);
}

static int write_words(const export_job *j, vectors_writer *as, err *e)
{
    const concept *c = j->c;
    if (c->n_tensors > 0 || c->n_tokens == 0)
        return err_set(e, ERR_INPUT,
                       c->n_tokens == 0 ? "it has no words; --format model takes everything"
                                        : "it has weights beside its words; --format model takes everything");
    TRY(fs_mkdirs(j->out, e));
    for (int i = 0, n; i < c->n_tokens; i += n) {
        n = vectors_of(c, i);
        TRY(write_vectors(j->out, c, i, n, as, e));
    }
    return 0;
}

static int write_embeds(const export_job *j, err *e)
{
    return write_words(j, vectors_as_diffusers, e);
}

static int write_a1111(const export_job *j, err *e)
{
    return write_words(j, vectors_as_a1111, e);
}

/* ---- the authors' own ---- */

/* delta.bin: {"unet": {...}, "modifier_token": {"<new1>": [width]}} */
static int write_delta_bin(const export_job *j, err *e)
{
    tensor_list l = {0};
    char name[NAME_ROOM];
    int rc;
    for (int i = 0; i < j->c->n_tensors; i++) {
        snprintf(name, sizeof name, "unet/%s", j->c->tensors[i].name);
        push_tensor(&l, name, &j->c->tensors[i]);
    }
    for (int i = 0; i < j->c->n_tokens; i++) {
        snprintf(name, sizeof name, "modifier_token/%s", j->c->tokens[i].word);
        push(&l, name, 1, j->c->width, 0, j->c->tokens[i].row);
    }
    rc = export_torch(j->out, l.at, l.n, NULL, 0, j->c, e);
    free_list(&l);
    return rc;
}

/* delta*.ckpt: {"state_dict": {CompVis names, "embed": [tokens, width]}} */
static int write_delta_ckpt(const export_job *j, err *e)
{
    tensor_list l = {0};
    size_t width = (size_t)j->c->width, n = (size_t)j->c->n_tokens;
    float *embed = NEW_N(float, n *width + 1);
    char name[NAME_ROOM + 16] = "state_dict/";
    char *tail = name + strlen("state_dict/");
    int rc = 0;
    for (int i = 0; rc == 0 && i < j->c->n_tensors; i++) {
        if (!single_attention(tail, j->c->tensors[i].name, sd_unet_shape(j->base)->level[0].layers))
            rc = no_name(j->c->tensors[i].name, "delta-ckpt", e);
        else
            push_tensor(&l, name, &j->c->tensors[i]);
    }
    for (size_t i = 0; i < n; i++)
        memcpy(embed + i * width, j->c->tokens[i].row, width * sizeof *embed);
    if (n > 0)
        push(&l, "state_dict/embed", 2, (int64_t)n, (int64_t)width, embed);
    if (rc == 0)
        rc = export_torch(j->out, l.at, l.n, NULL, 0, j->c, e);
    free_list(&l);
    free(embed);
    return rc;
}

const export_format export_formats[] = {
    {"diffusers", "a folder with pytorch_custom_diffusion_weights.safetensors and a file for each token",
     .write = write_diffusers},
    {"diffusers-bin", "the same as torch files (.bin), which load_attn_procs of diffusers takes",
     .write = write_diffusers_bin},
    {"model", "a whole model folder in the diffusers layout: the base with these weights and words in it",
     .needs_base = true, .write = export_model},
    {"single", "a folder with the whole model as one file in CompVis' keys, and an embedding file for each token",
     .needs_base = true, .write = export_single},
    {"single-diffusers", "the same in diffusers' keys", .needs_base = true, .write = export_single_diffusers},
    {"lora", "a folder with a LoRA in kohya's names (--rank) and an embedding file for each token", .needs_base = true,
     .as_is = export_has_factors, .write = export_lora},
    {"peft", "the same in the names of PEFT, which diffusers loads", .needs_base = true, .as_is = export_has_factors,
     .write = export_peft},
    {"svdiff", "a folder with spectral_shifts.safetensors, as svdiff-pytorch has it", .needs_base = true,
     .as_is = export_has_shifts, .write = export_shifts},
    {"embeds", "a folder with learned_embeds.safetensors, what diffusers, A1111 and ComfyUI load of Textual Inversion",
     .write = write_embeds},
    {"a1111", "a folder with WORD.pt, A1111's own file of an embedding", .write = write_a1111},
    {"delta-bin", "the authors' diffusers file, delta.bin", .write = write_delta_bin},
    {"delta-ckpt", "the authors' own file, delta*.ckpt", .needs_base = true, .write = write_delta_ckpt},
    {"compressed-bin", "the authors' delta.bin, compressed (--share)", .needs_base = true, .write = export_compressed_bin},
    {"compressed-ckpt", "the authors' own file, compressed", .needs_base = true, .write = export_compressed_ckpt},
    {.name = NULL},
};
