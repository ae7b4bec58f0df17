/* cfarm init FOLDER: a commented farm file for the pictures of a folder, or of each folder in it. What it cannot know
 * it writes as a guess and says so beside it; a file that is there is left alone. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/log.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "configs/cfg.h"
#include "data/image.h"
#include "data/image_list.h"
#include "trainer/eval/eval_command.h"

typedef struct { const char *base, *class_word, *out; } settings;

static const cfg_field ROWS[] = {
    {"base", CFG_TEXT, CFG_AT(settings, base), "", .help = "the base model: a folder in the diffusers layout"},
    {"class", CFG_TEXT, CFG_AT(settings, class_word), "",
     .help = "what the subject is, one word or two; else a guess by the folder's name"},
    {"out", CFG_TEXT, CFG_AT(settings, out), "farm.yaml", 1, 4000, .help = "the farm file; -o FILE is the same"},
    CFG_END,
};

/* ---- names ---- */

/* Letters, digits, - and _ of the folder's name, so that it can be a file's. */
static char *name_of(const char *folder)
{
    char *path = realpath(folder, NULL), *name = mem_text(fs_base(path ? path : folder)), *to = name;

    for (const char *p = name; *p; p++)
        *to++ = isalnum((unsigned char)*p) || *p == '_' ? *p : '-';
    *to = '\0';
    if (*name == '-')
        *name = '_'; /* "-" begins a flag */
    free(path);
    return name;
}

/* The last word of the name without figures behind it: "my_dog-2" is a dog. */
static void guess_class(char out[64], const char *name)
{
    size_t end = strlen(name), from;

    while (end > 0 && !isalpha((unsigned char)name[end - 1]))
        end--;
    for (from = end; from > 0 && isalpha((unsigned char)name[from - 1]); from--)
        ;
    snprintf(out, 64, "%.*s", (int)(end - from), name + from);
    for (char *p = out; *p; p++)
        *p = (char)tolower((unsigned char)*p);
}

/* In quotes, as YAML reads them back. */
static void quoted(str *to, const char *text)
{
    str_add(to, "\"");
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            str_add(to, "\\");
        str_put(to, text, 1);
    }
    str_add(to, "\"");
}

/* ---- concepts ---- */

/* How many pictures, and the smallest of their sides. */
static int look(const char *folder, size_t *n, int *side, err *e)
{
    image_list l = {0};
    image_info m;
    int rc = image_list_add(&l, ".", folder, e);

    *n = l.n;
    *side = IMAGE_SIDE_MOST;
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        rc = image_probe(&m, l.at[i].path, e);
        if (rc == 0 && (m.h < *side || m.w < *side))
            *side = m.h < m.w ? m.h : m.w;
    }
    image_list_free(&l);
    return rc;
}

static int add_concept(str *to, const settings *set, const char *folder, err *e)
{
    char guess[64], *name = name_of(folder), *path = realpath(folder, NULL);
    size_t n;
    int side, rc = look(folder, &n, &side, e);

    guess_class(guess, name);
    if (rc == 0) {
        str_add(to, "  - name: \"%s\"\n    class: ", name);
        quoted(to, set->class_word[0] ? set->class_word : *guess ? guess : "thing");
        str_add(to, "%s\n    images: ",
                set->class_word[0] ? "" : "              # a guess by the folder's name: say what it is");
        quoted(to, path ? path : folder);
        str_add(to, "   # %zu pictures, the shortest side is %d pixels%s\n    token: <%s>\n", n, side,
                n < 3 ? "; 3 to 20 are good" : n > 20 ? "; more than 20 are rarely better" : "", name);
    }
    free(name);
    free(path);
    return rc;
}

static bool has_pictures(const char *folder)
{
    char **names;
    size_t n;
    bool has = false;

    if (fs_list(&names, &n, folder, NULL) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        has = has || image_named(names[i]);
    fs_list_free(names);
    return has;
}

/* The folder itself, or those in it. */
static int add_concepts(str *to, int *count, const settings *set, const char *folder, err *e)
{
    char **names, path[FS_PATH];
    size_t n;
    int rc = 0;

    if (has_pictures(folder)) {
        *count = 1;
        return add_concept(to, set, folder, e);
    }
    TRY(fs_list(&names, &n, folder, e));
    for (size_t i = 0; i < n && rc == 0; i++)
        if ((rc = fs_join(path, folder, names[i], e)) == 0 && fs_is_dir(path) && has_pictures(path)) {
            rc = add_concept(to, set, path, e);
            ++*count;
        }
    fs_list_free(names);
    if (rc == 0 && *count == 0)
        rc = err_set(e, ERR_INPUT, "%s: no .jpg, .jpeg, .png or .webp in it or in a folder of it", folder);
    return rc;
}

/* ---- the file ---- */

static void begin(str *to, const settings *set, const char *farm)
{
    str_add(to, "# cfarm plan  FILE    checks it; cfarm train FILE trains, and goes on where it stopped.\n"
                "# Every key there is stands in configs/farm.yaml.\nfarm: \"%s\"\nbase: ", farm);
    quoted(to, set->base[0] ? set->base : "models/stable-diffusion-v1-5");
    str_add(to, "%s\n", set->base[0] ? "" : "   # change it: a folder in the diffusers layout, SD 1.x or 2.x");
    str_add(to, "defaults:\n"
                "  method: custom-diffusion     # or textual-inversion, dreambooth, lora, svdiff, fine-tune-all\n"
                "  steps: 250\n"
                "  seed: 1\n"
                "  regularisation:              # pictures of the class, so that it is not forgotten; one of these "
                "three:\n"
                "    generate: 200              # made once by the base model; real ones keep the class better:\n"
                "    # images: data/class200    # a folder or list of your own, with captions, or\n"
                "    # index: captions.index    # chosen from what cfarm reg index made of a large collection\n"
                "concepts:\n");
}

static int write_farm(const settings *set, const char *folder, logger *log, err *e)
{
    char *name = name_of(folder);
    str text = {0};
    int count = 0;

    begin(&text, set, name);
    int rc = fs_is_dir(folder) ? add_concepts(&text, &count, set, folder, e)
                               : err_set(e, ERR_INPUT, "%s: no such folder", folder);
    if (count > 1)
        str_add(&text, "# merge:                         # several in one model:\n#   - {name: both, of: [FIRST, "
                       "SECOND]}\n");
    if (rc == 0 && fs_exists(set->out))
        rc = err_set(e, ERR_INPUT, "%s is there already; give another -o FILE", set->out);
    if (rc == 0)
        rc = fs_write(set->out, text.at, text.n, e);
    if (rc == 0)
        log_event(log, "written", TEXT("file", set->out), INT("concepts", count));
    str_free(&text);
    free(name);
    return rc;
}

/* ---- the command ---- */

static int tell_flags(void)
{
    cfg_section section = {"init", ROWS, NULL};

    printf("usage: cfarm init FOLDER [-o FILE] [flags]\n\n");
    cfg_help(stdout, &section, 1);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int read_settings(settings *set, cfg_doc *d, int *argc, char **argv, err *e)
{
    cfg_section section = {"init", ROWS, set};
    cfg_node *flags;

    for (int i = 1; i < *argc; i++)
        if (strcmp(argv[i], "-o") == 0)
            argv[i] = cfg_text(d, "--out");
    TRY(cfg_args(&flags, d, &section, 1, argc, argv, e));
    TRY(cfg_args_done(&section, 1, *argc, argv, e));
    TRY(cfg_fill(NULL, d, &section, 1, flags, e));
    return *argc == 2 ? 0 : err_set(e, ERR_INPUT, "%d folders given; it goes: cfarm init FOLDER", *argc - 1);
}

static int run(int argc, char **argv, bool *understood, err *e)
{
    cfg_doc *d = cfg_doc_new();
    logger *log = NULL;
    settings set;
    int rc = read_settings(&set, d, &argc, argv, e);

    *understood = rc == 0;
    if (rc == 0)
        rc = log_open(&log, stderr, NULL, e);
    if (rc == 0)
        rc = write_farm(&set, argv[1], log, e);
    log_close(log);
    cfg_doc_free(d);
    return rc;
}

const eval_command eval_command_init = {"init", "a commented farm file for a folder of pictures", tell_flags, run};
