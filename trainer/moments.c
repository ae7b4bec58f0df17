#include "trainer/moments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"

/* The file: this head, then the floats as the machine has them (little-endian, as all machines that are built for). */
typedef struct {
    char magic[8];
    uint32_t version, crc;
    uint64_t count;
} head;
static const char MAGIC[8] = "CFMOMENT";
enum { VERSION = 1 };

int moments_path(char out[FS_PATH], const char *dir, const char key[HASH_HEX], err *e)
{
    char name[2 * HASH_HEX];

    snprintf(name, sizeof name, "%.2s/%s.moments", key, key);
    return fs_join(out, dir, name, e);
}

static bool is_whole(const char *text, size_t n, size_t count)
{
    head h;

    if (n != sizeof h + count * sizeof(float))
        return false;
    memcpy(&h, text, sizeof h);
    return memcmp(h.magic, MAGIC, sizeof MAGIC) == 0 && h.version == VERSION && h.count == count &&
           h.crc == hash_crc32(0, text + sizeof h, count * sizeof(float));
}

bool moments_read(const char *path, float *out, size_t count)
{
    size_t n, most = sizeof(head) + count * sizeof(float);
    char *text;

    if (!fs_exists(path) || fs_read(path, &text, &n, most, NULL) != 0)
        return false;
    bool whole = is_whole(text, n, count);
    if (whole)
        memcpy(out, text + sizeof(head), count * sizeof *out);
    free(text);
    return whole;
}

static int make_folder(const char *path, err *e)
{
    char dir[FS_PATH];

    snprintf(dir, sizeof dir, "%.*s", (int)(fs_base(path) - path - 1), path);
    return fs_mkdirs(dir, e);
}

int moments_write(const char *path, const float *from, size_t count, err *e)
{
    head h = {.version = VERSION, .count = count, .crc = hash_crc32(0, from, count * sizeof *from)};
    char *all = mem_new(sizeof h + count * sizeof *from, 1);

    memcpy(h.magic, MAGIC, sizeof MAGIC);
    memcpy(all, &h, sizeof h);
    memcpy(all + sizeof h, from, count * sizeof *from);
    int rc = make_folder(path, e);
    if (rc == 0)
        rc = fs_write(path, all, sizeof h + count * sizeof *from, e);
    free(all);
    return rc;
}
