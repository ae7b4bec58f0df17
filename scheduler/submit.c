/* `cfarm submit`: a script of cluster/launch/slurm with this farm and these choices written in, kept in the farm's folder
 * and queued. The script stands by itself: `sbatch FARM/farm.sbatch FARM.yaml` queues it again. */
#include "scheduler/submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "cluster/base/str.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"
#include "scheduler/prepare.h"

enum { CHOICES_MOST = 64, ANSWER_MOST = 1 << 16 };
static const char DIRECTIVE[] = "#SBATCH --";

/* What may be said briefly; whatever else sbatch knows is passed on as it is, by --sbatch OPTION. */
static const struct { const char *flag, *key, *help; } flags[] = {
    {"--partition", "partition", "where to queue it"},
    {"--time", "time", "the most it may take, as 08:00:00; out of time it is queued again and goes on"},
    {"--nodes", "nodes", "how many nodes"},
    {"--gpus", "gpus-per-node", "GPUs of each node"},
    {"--cpus", "cpus-per-task", "cores of each node, where the node is shared"},
    {"--account", "account", "who pays"},
    {"--qos", "qos", "the quality of service"},
    {"--array", "array", "not the farm itself but elastic agents for it, as 0-31%16"},
};
enum { FLAGS = sizeof flags / sizeof flags[0] };

/* One option of sbatch: "time=08:00:00", or "exclusive". */
typedef struct { const char *key; size_t key_n; const char *value; } choice;

typedef struct {
    const char *path;
    choice choice[CHOICES_MOST];
    int choices;
    bool print, mpirun, array;
    char log[FS_PATH];
} submit_options;

typedef struct { const char *file, *text; } script;

static int usage(void)
{
    fputs("usage: cfarm submit FARM.yaml [OPTION ...]      writes a Slurm script into the farm's folder and queues it\n"
          "  --print          only show the script\n"
          "  --mpirun         started by mpirun, where srun has no --mpi=pmix\n",
          stderr);
    for (int i = 0; i < FLAGS; i++)
        fprintf(stderr, "  %-9s V      %s\n", flags[i].flag, flags[i].help);
    fputs("  --sbatch OPTION  any other option of sbatch, as --sbatch --constraint=a100\n", stderr);
    return FARM_BAD_INPUT;
}

/* ---- the command line ----------------------------------------------------------------------------------------- */

static bool one_line(const char *text) { return *text && !strpbrk(text, "\n\r"); }

static bool choose(submit_options *o, const char *key, size_t n, const char *value)
{
    if (o->choices == CHOICES_MOST || n == 0 || (value && !one_line(value)))
        return false;
    o->choice[o->choices++] = (choice){key, n, value};
    return true;
}

static bool take_flag(submit_options *o, const char *flag, const char *value)
{
    for (int i = 0; i < FLAGS; i++)
        if (strcmp(flag, flags[i].flag) == 0) {
            o->array |= strcmp(flags[i].key, "array") == 0;
            return choose(o, flags[i].key, strlen(flags[i].key), value);
        }
    if (strcmp(flag, "--sbatch") != 0 || !str_starts(value, "--") || !one_line(value))
        return false;
    value += 2;
    flag = strchr(value, '=');
    return choose(o, value, strcspn(value, "="), flag ? flag + 1 : NULL);
}

static bool parse(submit_options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--print") == 0)
            o->print = true;
        else if (strcmp(argv[i], "--mpirun") == 0)
            o->mpirun = true;
        else if (argv[i][0] != '-' && !o->path)
            o->path = argv[i];
        else if (argv[i][0] != '-' || i + 1 == argc || !take_flag(o, argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    return o->path && !(o->mpirun && o->array);
}

/* ---- the script ----------------------------------------------------------------------------------------------- */

static void add_quoted(str *to, const char *text)
{
    str_add(to, "'");
    for (; *text; text++)
        str_add(to, "%.*s%s", *text != '\'', text, *text == '\'' ? "'\\''" : "");
    str_add(to, "'");
}

static void add_assignment(str *to, const char *name, const char *text)
{
    str_add(to, "%s=", name);
    add_quoted(to, text);
    str_add(to, "\n");
}

/* Slurm cuts a directive at spaces and quotes as a shell does. */
static void add_value(str *to, const char *text)
{
    if (!strpbrk(text, " \t\"'\\#")) {
        str_add(to, "=%s", text);
        return;
    }
    str_add(to, "=\"");
    for (; *text; text++)
        str_add(to, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
    str_add(to, "\"");
}

static void add_choice(str *to, const choice *c)
{
    str_add(to, "%s%.*s", DIRECTIVE, (int)c->key_n, c->key);
    if (c->value)
        add_value(to, c->value);
    str_add(to, "\n");
}

static const choice *chosen(const submit_options *o, const char *directive)
{
    size_t n = strcspn(directive, "= \n");

    for (int i = o->choices - 1; i >= 0; i--)
        if (o->choice[i].key_n == n && memcmp(o->choice[i].key, directive, n) == 0)
            return &o->choice[i];
    return NULL;
}

/* The script's own directives that were not chosen otherwise, then the chosen ones, then what it does, with this farm's
 * places in the three lines that name them. */
static void write_script(str *to, const char *from, const submit_options *o, const farmfile *f, const char *farm,
                         const char *cfarm)
{
    bool head = true;

    for (const char *line = from, *end; *line; line = end) {
        end = strchr(line, '\n') + 1;
        if (str_starts(line, DIRECTIVE) && chosen(o, line + sizeof DIRECTIVE - 1))
            continue;
        if (head && line[0] != '#') {
            head = false;
            for (int i = 0; i < o->choices; i++)
                if (chosen(o, o->choice[i].key) == &o->choice[i])
                    add_choice(to, &o->choice[i]);
        }
        if (str_starts(line, "farm="))
            add_assignment(to, "farm", farm);
        else if (str_starts(line, "dir="))
            add_assignment(to, "dir", f->dir);
        else if (str_starts(line, "cfarm="))
            add_assignment(to, "cfarm", cfarm);
        else
            str_put(to, line, (size_t)(end - line));
    }
}

/* ---- queueing ------------------------------------------------------------------------------------------------- */

static int check(const submit_options *o, err *e)
{
    json_t *checked = NULL;

    TRY(prepare_check(&checked, o->path, NULL, e));
    json_decref(checked);
    return 0;
}

/* Slurm's words on standard error are the user's to read; its answer is the job's number. */
static int queue(const char *file, const char *farm, char job[64], err *e)
{
    char sbatch[FS_PATH], *answer;
    const char *argv[] = {sbatch, "--parsable", file, farm, NULL};
    size_t n;
    int status;

    if (!child_find(sbatch, "sbatch"))
        return err_set(e, ERR_INPUT, "sbatch is not in PATH: this machine has no Slurm client; %s can be queued from one that has",
                       file);
    TRY(child_output(argv, &answer, &n, ANSWER_MOST, &status, e));
    answer[strcspn(answer, ";\n")] = '\0';
    str_copy(job, 64, answer);
    free(answer);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(e, ERR_INPUT, "sbatch did not take %s", file);
    return 0;
}

/* The log stands with the farm's others unless another place was asked for. */
static int choose_names(submit_options *o, const farmfile *f, err *e)
{
    TRY(fs_join(o->log, f->dir, o->array ? "logs/slurm-%A_%a.log" : "logs/slurm-%j.log", e));
    if (!chosen(o, "output") && !choose(o, "output", 6, o->log))
        return err_set(e, ERR_INPUT, "more than %d options", CHOICES_MOST - 2);
    if (!chosen(o, "job-name") && !choose(o, "job-name", 8, f->name))
        return err_set(e, ERR_INPUT, "more than %d options", CHOICES_MOST - 2);
    return 0;
}

static int keep_and_queue(const farmfile *f, const script *s, const str *text, const char *farm, err *e)
{
    char path[FS_PATH], logs[FS_PATH], job[64];

    TRY(fs_join(path, f->dir, s->file, e));
    TRY(fs_join(logs, f->dir, "logs", e));
    TRY(fs_mkdirs(logs, e)); /* Slurm opens the log before the script runs, and makes no folder */
    TRY(fs_write(path, text->at, text->n, e));
    TRY(queue(path, farm, job, e));
    printf("job %s: farm %s, %s\n", job, f->name, path);
    return 0;
}

static int submit(submit_options *o, farmfile *f, err *e)
{
    const script s = o->array    ? (script){"agents.sbatch", submit_agents}
                     : o->mpirun ? (script){"farm-mpirun.sbatch", submit_farm_mpirun}
                                 : (script){"farm.sbatch", submit_farm};
    char farm[FS_PATH], cfarm[FS_PATH];
    str text = {0};
    int rc;

    TRY(fs_join(farm, f->root, fs_base(f->path), e));
    TRY(child_program(cfarm, "cfarm", e));
    TRY(choose_names(o, f, e));
    write_script(&text, s.text, o, f, farm, cfarm);
    if (o->print) {
        fputs(text.at, stdout);
        rc = 0;
    } else {
        rc = o->array ? 0 : check(o, e);
        if (rc == 0)
            rc = keep_and_queue(f, &s, &text, farm, e);
    }
    str_free(&text);
    return rc;
}

int command_submit(int argc, char **argv)
{
    submit_options o = {0};
    prepared p = {0};
    err e = {0};
    int rc;

    if (!parse(&o, argc, argv))
        return usage();
    rc = prepare_read(&p, o.path, 0, &e);
    if (rc == 0)
        rc = submit(&o, p.f, &e);
    prepare_free(&p);
    if (rc == 0)
        return FARM_DONE;
    fprintf(stderr, "cfarm: %s\n", e.text);
    return e.code == ERR_INPUT ? FARM_BAD_INPUT : FARM_BROKEN;
}
