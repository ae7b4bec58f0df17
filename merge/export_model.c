/* A whole model folder: everything of the base as it is, but for the changed weights of UNet and text encoder, the
 * latter's token table (one row more for each token, in f32), its config (vocab_size) and the tokenizer's
 * added_tokens.json. It is made beside its place and renamed, so it is there whole or not at all. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/safetensors.h"
#include "data/tokenizer.h"
#include "merge/export.h"
#include "merge/names.h"

#define UNET        "unet/diffusion_pytorch_model.safetensors"
#define TEXT        "text_encoder/model.safetensors"
#define TEXT_CONFIG "text_encoder/config.json"
#define TABLE       "text_model.embeddings.token_embedding.weight"
#define TEXT_PREFIX "text_encoder."
#define ADDED       "tokenizer/added_tokens.json"

/* ---- copying ---- */

static int copy_bytes(FILE *to, FILE *from)
{
    char block[1 << 16];
    size_t n;
    while ((n = fread(block, 1, sizeof block, from)) > 0)
        if (fwrite(block, 1, n, to) != n)
            return -1;
    return ferror(from) ? -1 : 0;
}

static int copy_file(const char *to, const char *from, err *e)
{
    FILE *in = fopen(from, "rb"), *out = in ? fopen(to, "wb") : NULL;
    bool good = in && out && copy_bytes(out, in) == 0 && fflush(out) == 0 && fsync(fileno(out)) == 0;
    int failed = good ? 0 : errno;
    if (out && fclose(out) != 0 && good) {
        failed = errno;
        good = false;
    }
    if (in)
        fclose(in);
    return good ? 0 : err_set(e, ERR_IO, "%s cannot be copied to %s: %s", from, to, strerror(failed));
}

/* Files that are made anew, and other spellings of the weights that would speak against them. */
static bool is_replaced(const char *name)
{
    static const char *const made[] = {UNET, TEXT, TEXT_CONFIG, ADDED};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (strcmp(name, made[i]) == 0)
            return true;
    return (str_starts(name, "unet/") || str_starts(name, "text_encoder/")) &&
           (str_ends(name, ".safetensors") || str_ends(name, ".bin") || str_ends(name, ".msgpack"));
}

/* Everything below base/name. */
static int copy_tree(const char *dir, const char *base, const char *name, int depth, err *e)
{
    char from[FS_PATH], to[FS_PATH], **names;
    size_t n;
    int rc;
    TRY(fs_join(from, base, name, e));
    TRY(fs_join(to, dir, name, e));
    if (!fs_is_dir(from))
        return is_replaced(name) ? 0 : copy_file(to, from, e);
    if (depth > 4)
        return err_set(e, ERR_INPUT, "%s: folders are nested too deep for a model", from);
    TRY(fs_mkdirs(to, e));
    rc = fs_list(&names, &n, from, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        char child[FS_PATH];
        snprintf(child, sizeof child, "%s%s%s", name, name[0] ? "/" : "", names[i]);
        rc = copy_tree(dir, base, child, depth + 1, e);
    }
    if (names)
        fs_list_free(names);
    return rc;
}

/* ---- weights ---- */

static bool is_text(const concept_tensor *t)
{
    return str_starts(t->name, TEXT_PREFIX);
}

/* The file's tensors, those of c in place of the base's; prefix: what c has before their names. All of c's that are (or
 * are not) of the text encoder must be among them. */
static int list_tensors(st_tensor **out, const safetensors *f, const concept *c, const char *prefix, err *e)
{
    int left = 0;
    *out = NEW_N(st_tensor, st_count(f));
    for (int i = 0; i < c->n_tensors; i++)
        left += is_text(&c->tensors[i]) == (prefix[0] != '\0');
    for (size_t i = 0; i < st_count(f); i++) {
        char name[NAME_ROOM];
        snprintf(name, sizeof name, "%s%s", prefix, st_at(f, i)->name);
        const concept_tensor *t = concept_find(c, name);
        (*out)[i] = *st_at(f, i);
        if (!t || (*out)[i].count != (uint64_t)t->rows * (uint64_t)(t->cols ? t->cols : 1))
            continue;
        (*out)[i].type = F32;
        (*out)[i].data = t->data;
        left--;
    }
    return left == 0 ? 0
                     : err_set(e, ERR_INPUT, "%d of %d tensors are not in the base model, or not with that shape", left,
                               c->n_tensors);
}

static int write_changed(const char *to, const st_tensor list[], size_t n, const concept *c, err *e)
{
    const char *values[EXPORT_PROVENANCE + 1];
    export_provenance_of(c, values);
    return st_write(to, list, n, export_provenance, values, e);
}

static int write_unet(const export_job *j, const char *dir, err *e)
{
    char from[FS_PATH], to[FS_PATH];
    safetensors *f;
    st_tensor *list;
    TRY(fs_join(from, sd_dir(j->base), UNET, e));
    TRY(fs_join(to, dir, UNET, e));
    TRY(st_open(&f, from, e));
    int rc = list_tensors(&list, f, j->c, "", e);
    if (rc == 0)
        rc = write_changed(to, list, st_count(f), j->c, e);
    free(list);
    st_close(f);
    return rc;
}

static int longer_table(float **out, const st_tensor *table, const concept *c, err *e)
{
    size_t width = (size_t)c->width;
    if (table->n != 2 || table->d[1] != c->width)
        return err_set(e, ERR_SHAPE, TABLE " has not %d columns", c->width);
    TRY(mem_big((void **)out, ((size_t)table->count + (size_t)c->n_tokens * width) * sizeof **out, "token table", e));
    f32_from(*out, table->data, table->type, (size_t)table->count);
    for (int i = 0; i < c->n_tokens; i++)
        memcpy(*out + table->count + (size_t)i * width, c->tokens[i].row, width * sizeof **out);
    return 0;
}

static st_tensor *table_in(st_tensor *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, TABLE) == 0)
            return &list[i];
    return NULL;
}

static int write_table(const export_job *j, const char *to, const safetensors *f, err *e)
{
    st_tensor *list;
    float *rows = NULL;
    int rc = list_tensors(&list, f, j->c, TEXT_PREFIX, e);
    st_tensor *table = rc == 0 ? table_in(list, st_count(f)) : NULL;
    if (rc == 0)
        rc = table ? longer_table(&rows, table, j->c, e) : err_set(e, ERR_INPUT, "%s has no " TABLE, st_path(f));
    if (rc == 0) {
        table->type = F32;
        table->data = rows;
        table->d[0] += j->c->n_tokens;
        table->count = (uint64_t)table->d[0] * (uint64_t)table->d[1];
    }
    if (rc == 0)
        rc = write_changed(to, list, st_count(f), j->c, e);
    free(list);
    free(rows);
    return rc;
}

static int write_text(const export_job *j, const char *dir, err *e)
{
    char from[FS_PATH], to[FS_PATH];
    safetensors *f;
    int rc;
    TRY(fs_join(from, sd_dir(j->base), TEXT, e));
    TRY(fs_join(to, dir, TEXT, e));
    TRY(st_open(&f, from, e));
    rc = write_table(j, to, f, e);
    st_close(f);
    return rc;
}

/* ---- words ---- */

static int write_json(const char *dir, const char *name, json_t *o, err *e)
{
    char path[FS_PATH], *text = json_dumps(o, JSON_INDENT(2));
    int rc = fs_join(path, dir, name, e);
    if (rc == 0)
        rc = fs_write(path, text, strlen(text), e);
    free(text);
    return rc;
}

static int write_config(const export_job *j, const char *dir, err *e)
{
    char path[FS_PATH];
    json_t *o;
    int64_t vocab;
    int rc;
    TRY(fs_join(path, sd_dir(j->base), TEXT_CONFIG, e));
    TRY(json_read(&o, path, e));
    rc = json_get_int(o, "vocab_size", 1, INT32_MAX, &vocab, e);
    if (rc == 0) {
        json_object_set_new(o, "vocab_size", json_integer(vocab + j->c->n_tokens));
        rc = write_json(dir, TEXT_CONFIG, o, e);
    }
    json_decref(o);
    return rc;
}

/* What stands in the base's added_tokens.json, and the new ones behind all. */
static int add_words(json_t *o, const export_job *j, err *e)
{
    char path[FS_PATH];
    tokenizer *t;
    int rc = 0;
    TRY(fs_join(path, sd_dir(j->base), "tokenizer", e));
    TRY(tokenizer_open(&t, path, e));
    for (int i = 0; rc == 0 && i < j->c->n_tokens; i++) {
        int32_t id;
        rc = tokenizer_add(t, j->c->tokens[i].word, &id, e);
        if (rc == 0 && id != sd_text_shape(j->base)->vocab + i)
            rc = err_set(e, ERR_INPUT, "the base's tokenizer counts %d words and its text encoder %d", (int)id - i,
                         sd_text_shape(j->base)->vocab);
        if (rc == 0)
            json_object_set_new(o, j->c->tokens[i].word, json_integer(id));
    }
    tokenizer_close(t);
    return rc;
}

static int write_words(const export_job *j, const char *dir, err *e)
{
    char path[FS_PATH];
    json_t *o = NULL;
    int rc;
    TRY(fs_join(path, sd_dir(j->base), ADDED, e));
    if (fs_exists(path))
        TRY(json_read(&o, path, e));
    else
        o = json_object();
    rc = add_words(o, j, e);
    if (rc == 0)
        rc = write_json(dir, ADDED, o, e);
    json_decref(o);
    return rc;
}

static int write_all(const export_job *j, const char *dir, err *e)
{
    TRY(copy_tree(dir, sd_dir(j->base), "", 0, e));
    TRY(write_unet(j, dir, e));
    TRY(write_text(j, dir, e));
    TRY(write_config(j, dir, e));
    return write_words(j, dir, e);
}

int export_model(const export_job *j, err *e)
{
    char aside[FS_PATH];
    int rc;
    if (sd_is_single(j->base))
        return err_set(e, ERR_INPUT, "the base is one file (%s) and no folder to make another of; --format single or "
                                     "single-diffusers makes one file", sd_dir(j->base));
    if (fs_exists(j->out))
        return err_set(e, ERR_INPUT, "%s is there already; give another name", j->out);
    TRY(fs_aside(aside, j->out, e));
    rc = fs_mkdirs(aside, e);
    if (rc == 0)
        rc = write_all(j, aside, e);
    if (rc == 0 && rename(aside, j->out) != 0)
        rc = err_set(e, ERR_IO, "%s cannot be renamed into place: %s", j->out, strerror(errno));
    if (rc != 0)
        fs_remove_tree(aside, NULL);
    return rc;
}
