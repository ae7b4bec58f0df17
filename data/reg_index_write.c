/* Writing an index: what is known goes first, vectors as they are made, the header last, under a name aside. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/dtype.h"
#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/reg_index_impl.h"

struct reg_writer {
    char path[FS_PATH], aside[FS_PATH];
    FILE *to;
    reg_header h;
    uint16_t *block;       /* rows of the block that is being filled */
    int64_t rows, filled;  /* added in all; in the block */
    uint64_t *sums;
    size_t n_sums;
};

static int failed(const reg_writer *w, err *e)
{
    return err_set(e, ERR_IO, "%s: cannot write: %s", w->path, fs_reason(errno));
}

static int put(reg_writer *w, const void *bytes, size_t n, err *e)
{
    return fwrite(bytes, 1, n, w->to) == n ? 0 : failed(w, e);
}

static int pad_to(reg_writer *w, uint64_t at, err *e)
{
    static const char zeros[REG_INDEX_PAGE];
    long is = ftell(w->to);

    if (is < 0)
        return failed(w, e);
    CHECK(at >= (uint64_t)is && at - (uint64_t)is <= sizeof zeros);
    return put(w, zeros, (size_t)(at - (uint64_t)is), e);
}

static void normalise(float *to, const float *from, size_t n)
{
    double squares = 0;

    for (size_t k = 0; k < n; k++)
        squares += (double)from[k] * from[k];
    for (size_t k = 0; k < n; k++)
        to[k] = squares > 0 ? (float)(from[k] / sqrt(squares)) : 0;
}

/* Paths that follow each other and are equal, as those of an archive's members are, stand once. */
static void lay_texts(str *text, reg_record *table, const reg_entry *entries, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        bool again = i > 0 && strcmp(entries[i].path, entries[i - 1].path) == 0;
        table[i] =
            (reg_record){.path = again ? table[i - 1].path : text->n, .at = entries[i].at, .size = entries[i].size};
        if (!again)
            str_put(text, entries[i].path, strlen(entries[i].path) + 1);
        table[i].caption = text->n;
        str_put(text, entries[i].caption, strlen(entries[i].caption) + 1);
    }
}

/* Probe, table and texts are summed as they lie, with what is between them. */
static int put_front(reg_writer *w, const float *probe, const reg_record *table, const str *text, err *e)
{
    size_t bytes = (size_t)(w->h.text_at + w->h.text_bytes - sizeof w->h), row = w->h.dim * sizeof(float);
    void *front;

    TRY(mem_big(&front, bytes, "the texts of an index", e));
    memset(front, 0, bytes);
    normalise(front, probe, w->h.dim);
    CHECK(row <= bytes);
    memcpy((char *)front + w->h.table_at - sizeof w->h, table, (size_t)w->h.count * sizeof *table);
    memcpy((char *)front + w->h.text_at - sizeof w->h, text->at, text->n);
    w->h.front_sum = reg_sum(front, bytes);
    int rc = put(w, front, bytes, e);
    free(front);
    return rc == 0 ? pad_to(w, w->h.vectors_at, e) : rc;
}

static int begin(reg_writer *w, const reg_entry *entries, const float *probe, err *e)
{
    reg_record *table = NEW_N(reg_record, w->h.count);
    str text = {0};

    lay_texts(&text, table, entries, (int64_t)w->h.count);
    w->h.text_bytes = text.n;
    int rc = reg_layout(&w->h, e);
    if (rc == 0)
        rc = put(w, &w->h, sizeof w->h, e);
    if (rc == 0)
        rc = put_front(w, probe, table, &text, e);
    str_free(&text);
    free(table);
    return rc;
}

int reg_writer_open(reg_writer **out, const char *path, const reg_entry *entries, int64_t count, int dim,
                    const float *probe, err *e)
{
    reg_writer *w = NEW(reg_writer);

    CHECK(count > 0 && dim > 0 && dim <= REG_INDEX_DIM_MOST);
    w->h = (reg_header){
        .magic = REG_INDEX_MAGIC, .version = REG_INDEX_VERSION, .dim = (uint32_t)dim, .count = (uint64_t)count};
    w->block = NEW_N(uint16_t, reg_block_rows(dim) * dim);
    w->sums = NEW_N(uint64_t, count / reg_block_rows(dim) + 1);
    int rc = str_copy(w->path, sizeof w->path, path) ? fs_aside(w->aside, path, e)
                                                     : err_set(e, ERR_INPUT, "a path is too long");
    if (rc == 0 && !(w->to = fopen(w->aside, "w+b")))
        rc = failed(w, e);
    if (rc == 0)
        rc = begin(w, entries, probe, e);
    if (rc != 0)
        reg_writer_drop(w);
    else
        *out = w;
    return rc;
}

static int flush_block(reg_writer *w, err *e)
{
    size_t bytes = (size_t)w->filled * w->h.dim * sizeof *w->block;

    w->sums[w->n_sums++] = reg_sum(w->block, bytes);
    w->filled = 0;
    return put(w, w->block, bytes, e);
}

static void add_row(reg_writer *w, const float *row, bool kept, float *room)
{
    uint16_t *to = w->block + w->filled++ * (int64_t)w->h.dim;

    if (!kept)
        normalise(room, row, w->h.dim);
    for (uint32_t k = 0; k < w->h.dim; k++) {
        float v = kept ? row[k] : room[k];
        to[k] = fabsf(v) < 0x1p-14F ? 0 : f16_of_f32(v); /* denormals cost a search more than they are worth */
    }
    w->rows++;
}

int reg_writer_add(reg_writer *w, const float *vectors, int64_t n, bool kept, err *e)
{
    float *room = NEW_N(float, w->h.dim);
    int rc = 0;

    CHECK(w->rows + n <= (int64_t)w->h.count);
    for (int64_t i = 0; i < n && rc == 0; i++) {
        add_row(w, vectors + i * (int64_t)w->h.dim, kept, room);
        if (w->filled == reg_block_rows((int)w->h.dim))
            rc = flush_block(w, e);
    }
    free(room);
    return rc;
}

static int read_back(reg_writer *w, int64_t row, uint16_t *to, err *e)
{
    size_t bytes = w->h.dim * sizeof *to;
    int64_t written = w->rows - w->filled;

    if (row >= written) {
        memcpy(to, w->block + (row - written) * (int64_t)w->h.dim, bytes);
        return 0;
    }
    if (fflush(w->to) != 0)
        return failed(w, e);
    off_t at = (off_t)(w->h.vectors_at + (uint64_t)row * bytes);
    return pread(fileno(w->to), to, bytes, at) == (ssize_t)bytes ? 0 : failed(w, e);
}

int reg_writer_read(reg_writer *w, int64_t row, float *out, err *e)
{
    uint16_t *half = NEW_N(uint16_t, w->h.dim);

    CHECK(row >= 0 && row < w->rows);
    int rc = read_back(w, row, half, e);
    f32_from(out, half, F16, w->h.dim);
    free(half);
    return rc;
}

static int finish(reg_writer *w, err *e)
{
    CHECK(w->rows == (int64_t)w->h.count);
    if (w->filled > 0)
        TRY(flush_block(w, e));
    TRY(pad_to(w, w->h.sums_at, e));
    TRY(put(w, w->sums, w->n_sums * sizeof *w->sums, e));
    w->h.sums_sum = reg_sum(w->sums, w->n_sums * sizeof *w->sums);
    w->h.sum = reg_sum(&w->h, offsetof(reg_header, sum));
    if (fseek(w->to, 0, SEEK_SET) != 0)
        return failed(w, e);
    TRY(put(w, &w->h, sizeof w->h, e));
    int closed = fclose(w->to);
    w->to = NULL;
    return closed == 0 ? fs_commit(w->aside, w->path, e) : failed(w, e);
}

int reg_writer_commit(reg_writer *w, err *e)
{
    int rc = finish(w, e);

    if (rc == 0)
        w->aside[0] = '\0';
    reg_writer_drop(w);
    return rc;
}

void reg_writer_drop(reg_writer *w)
{
    if (!w)
        return;
    if (w->to)
        fclose(w->to);
    if (w->aside[0])
        fs_discard(w->aside);
    free(w->block);
    free(w->sums);
    free(w);
}
