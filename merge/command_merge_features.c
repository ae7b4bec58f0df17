/* The captions' features of cfarm merge: kept ones, read beside the concepts, or made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/clock.h"
#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "data/store.h"
#include "merge/command_merge_impl.h"

/* False: they were not read, or could not be. */
bool merge_take_early(merge_job *j)
{
    bool there = j->early.on && pthread_join(j->early.thread, NULL) == 0 && j->early.rc == 0;
    j->early.on = false;
    if (there)
        j->f = j->early.f;
    return there;
}

int merge_need_base(merge_job *j, err *e)
{
    if (j->base.model)
        return 0;
    return base_open(&j->base, j->set->base, j->in[0].base_path, j->in[0].base, e);
}

static void tell_encoding(void *arg, int done, int n)
{
    log_progress(arg, "features of captions, once for a base model: %d of %d", done, n);
}

/* A cache that cannot be written costs time at the next merge and nothing else. */
static int make_features(merge_job *j, const char *path, err *e)
{
    err late = {0};
    const char *slash = strrchr(path, '/');
    char dir[FS_PATH];
    double start = clock_s();
    TRY(merge_need_base(j, e));
    TRY(features_make(&j->f, j->base.model, j->captions, j->n_captions, tell_encoding, j->log, e));
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 0, path);
    if ((dir[0] && fs_mkdirs(dir, &late) != 0) || features_write(path, &j->f, &late) != 0)
        log_event(j->log, "warning", TEXT("text", "the captions' features are not kept"), TEXT("why", late.text));
    else
        log_event(j->log, "features", INT("captions", j->n_captions), TEXT("kept", path),
                  REAL("seconds", clock_s() - start));
    return 0;
}

/* Where they are kept for this base model. */
static int find_features(merge_job *j, char path[FS_PATH], const char *base, err *e)
{
    if (!j->captions) {
        TRY(captions_read(&j->captions, &j->n_captions, j->set->captions[0] ? j->set->captions : NULL, e));
        captions_hash(j->captions_hash, j->captions, j->n_captions);
    }
    if (!j->set->features[0])
        return features_path(path, base, j->captions_hash, e);
    str_copy(path, FS_PATH, j->set->features);
    return 0;
}

static void *read_early(void *arg)
{
    merge_job *j = arg;
    j->early.rc = features_read(&j->early.f, j->early.path, NULL);
    return NULL;
}

/* Both the concepts and the features are mostly hashed. The first file's word for its base is enough: whatever is wrong here is
 * found again, and told, by open_features. */
void merge_start_features(merge_job *j)
{
    store *s;
    char *base = NULL;
    if (store_open(&s, j->given[0], NULL) != 0)
        return;
    if (store_get_text(s, "/", "base", &base, NULL) == 0 && find_features(j, j->early.path, base, NULL) == 0 &&
        fs_exists(j->early.path))
        j->early.on = pthread_create(&j->early.thread, NULL, read_early, j) == 0;
    free(base);
    store_close(s);
}

static int read_features(merge_job *j, const char *path, err *e)
{
    if (!fs_exists(path))
        return make_features(j, path, e);
    if (features_read(&j->f, path, e) == 0)
        return 0;
    if (j->set->features[0])
        return (int)e->code;
    log_event(j->log, "warning", TEXT("text", "kept features are made again"), TEXT("why", e->text));
    *e = (err){0};
    return make_features(j, path, e);
}

int merge_open_features(merge_job *j, err *e)
{
    char path[FS_PATH];
    bool any = j->set->features[0] && !j->set->captions[0]; /* a file of features given alone speaks for itself */
    TRY(find_features(j, path, j->in[0].base, e));
    if (!merge_take_early(j))
        TRY(read_features(j, path, e));
    if (strcmp(j->f.base, j->in[0].base) != 0 || (!any && strcmp(j->f.captions, j->captions_hash) != 0))
        return err_set(e, ERR_INPUT, "%s holds the features of %s", path,
                       strcmp(j->f.base, j->in[0].base) ? "another base model" : "other captions");
    return 0;
}
