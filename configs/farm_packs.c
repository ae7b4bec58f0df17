#include "configs/farm_packs.h"

#include <string.h>

#include "cluster/base/fs.h"

int farm_packs_path(char out[FS_PATH], const farmfile *f, err *e)
{
    return fs_join(out, f->dir, "packs.json", e);
}

/* The file as it may be used; else NULL, and what is in the way. */
static json_t *measured(const farmfile *f, str *why)
{
    char path[FS_PATH];
    json_t *o = NULL;
    err e = {0};

    if (farm_packs_path(path, f, &e) != 0 || !fs_exists(path)) {
        str_add(why, "nothing is measured; cfarm bench --packs %s does it", f->path);
        return NULL;
    }
    if (json_read(&o, path, &e) != 0) {
        str_add(why, "%s", e.text);
        return NULL;
    }
    const char *base = json_string_value(json_object_get(o, "base"));
    bool ours = json_integer_value(json_object_get(o, "version")) == FARM_PACKS_VERSION && base && strcmp(base, f->base) == 0;
    if (ours)
        return o;
    str_add(why, "%s is of another base or version; cfarm bench --packs %s measures anew", path, f->path);
    json_decref(o);
    return NULL;
}

static int most_of(const json_t *class)
{
    const json_t *most = json_object_get(class, "most"), *gain = json_object_get(class, "gain");

    return json_is_integer(most) && json_integer_value(most) >= 2 && json_integer_value(most) <= 64 && json_is_number(gain) &&
                   json_number_value(gain) >= FARM_PACKS_GAIN ? (int)json_integer_value(most) : 1;
}

static const json_t *find(const json_t *all, const char *alike)
{
    const json_t *list = json_object_get(all, "classes"), *best = NULL;

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *class = json_array_get(list, i);
        const char *is = json_string_value(json_object_get(class, "alike"));
        if (alike && is && strcmp(is, alike) == 0)
            return class;
        if (!alike && (!best || most_of(class) > most_of(best)))
            best = class;
    }
    return best;
}

static void tell(const json_t *all, const json_t *class, str *why)
{
    const json_t *list = json_object_get(class, "steps");
    const char *node = json_string_value(json_object_get(all, "node"));

    str_add(why, "measured on %s with %d threads:", node ? node : "?", (int)json_integer_value(json_object_get(all, "threads")));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        int n = (int)json_integer_value(json_object_get(one, "at_once")), mib = (int)json_integer_value(json_object_get(one, "mib"));
        int room = (int)json_integer_value(json_object_get(one, "room_mib"));
        str_add(why, "%s %d at once ", i ? "," : "", n);
        if (room > 0)
            str_add(why, "would take %d MiB of a worker's %d", mib, room);
        else
            str_add(why, "%.3g steps a second", json_number_value(json_object_get(one, "per_s")));
        if (room == 0 && mib > 0)
            str_add(why, " in %d MiB", mib);
    }
}

int farm_packs(const farmfile *f, const char *alike, str *why)
{
    str unheard = {0}, *to = why ? why : &unheard;
    json_t *all = measured(f, to);
    const json_t *class = all ? find(all, alike) : NULL;
    int most = class ? most_of(class) : 1;

    if (class)
        tell(all, class, to);
    else if (all)
        str_add(to, "this class is not measured; cfarm bench --packs %s measures anew", f->path);
    json_decref(all);
    str_free(&unheard);
    return most;
}
