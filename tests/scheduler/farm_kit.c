#include "tests/scheduler/farm_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/json.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "scheduler/journal.h"

static char root[] = "/tmp/farm-XXXXXX";
char cfarm[FS_PATH];
static int farms;

/* ---- a farm of its own for each test -------------------------------------------------------------------------- */

static const char HEAD[] = "farm: pets\nbase: base\ndefaults: {images: x, class: dog, steps: 10}\nconcepts:\n";

/* concepts: lines of the YAML list; more: any other top-level keys. */
farm farm_new(const char *concepts, const char *more)
{
    farm f;
    str text = {0};

    snprintf(f.dir, sizeof f.dir, "%s/f%d", root, ++farms);
    snprintf(f.file, sizeof f.file, "%s/farm.yaml", f.dir);
    snprintf(f.said, sizeof f.said, "%s/said", f.dir);
    fs_mkdirs(f.dir, NULL);
    str_add(&text, "%s%s\n%s\n", HEAD, concepts, more);
    assert_int_equal(fs_write(f.file, text.at, text.n, NULL), 0);
    str_free(&text);
    return f;
}

void farm_rewrite(const farm *f, const char *concepts)
{
    str text = {0};
    str_add(&text, "%s%s\n", HEAD, concepts);
    assert_int_equal(fs_write(f->file, text.at, text.n, NULL), 0);
    str_free(&text);
}

pid_t launch(const farm *f, const char *const *argv)
{
    pid_t pid = fork();

    if (pid == 0) {
        int fd = open(f->said, O_WRONLY | O_CREAT | O_APPEND, 0644), null = open("/dev/null", O_RDONLY);
        setenv("CFARM_TEST", f->file, 1);
        setpgid(0, 0);
        dup2(null, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

pid_t train_begin(const farm *f, const char *workers)
{
    const char *argv[] = {cfarm, "train", f->file, "--workers", workers, NULL};
    return launch(f, argv);
}

char *said(const farm *f)
{
    char *text;
    size_t n;

    return fs_read(f->said, &text, &n, 1 << 20, NULL) == 0 ? text : mem_text("");
}

/* A farm that hangs is a failed test, not a hanging one. */
int end_of(const farm *f, pid_t pid)
{
    int status;

    for (int i = 0; i < 6000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        usleep(10000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    fail_msg("the farm did not end in 60 s:\n%s", said(f));
    return -1;
}

void expect_end(const farm *f, pid_t pid, int status)
{
    int got = end_of(f, pid);

    if (got != status)
        fail_msg("exit status %d, not %d:\n%s", got, status, said(f));
}

void train(const farm *f, const char *workers, int status) { expect_end(f, train_begin(f, workers), status); }

/* ---- what is left behind -------------------------------------------------------------------------------------- */

static int count(void *arg, int type, const char *body, size_t n, err *e)
{
    tally *t = arg;
    json_t *o = json_loadb(body, n, 0, NULL);
    int gang = (int)json_integer_value(json_object_get(o, "gang"));

    (void)e;
    t->starts += type == EV_START;
    t->dones += type == EV_DONE;
    t->fails += type == EV_FAILED;
    if (type == EV_START && gang > t->widest)
        t->widest = gang;
    json_decref(o);
    return 0;
}

tally journal_of(const farm *f)
{
    char path[256];
    tally t = {0};
    journal *j;
    err e = {0};

    snprintf(path, sizeof path, "%s/pets/journal", f->dir);
    if (journal_open(&j, path, count, &t, &e) != 0)
        fail_msg("%s", e.text);
    journal_close(j);
    return t;
}

int files_in(const farm *f, const char *sub)
{
    char path[256], **names;
    size_t n;

    snprintf(path, sizeof path, "%s/pets/%s", f->dir, sub);
    if (fs_list(&names, &n, path, NULL) != 0)
        return -1;
    fs_list_free(names);
    return (int)n;
}

bool has_result(const farm *f, const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "%s/pets/out/%s.h5", f->dir, name);
    return fs_exists(path);
}

char *result(const farm *f, const char *name)
{
    char path[256], *text;
    size_t n;

    snprintf(path, sizeof path, "%s/pets/out/%s.h5", f->dir, name);
    if (fs_read(path, &text, &n, 1 << 20, NULL) != 0)
        fail_msg("%s is not there:\n%s", path, said(f));
    return text;
}

/* For every process there is: its number, and its parent's (0 when it has ended but was not reaped). */
typedef void process_fn(void *arg, pid_t pid, pid_t parent);

static void each_process(process_fn *fn, void *arg)
{
    char **names, path[64];
    size_t n;

    assert_int_equal(fs_list(&names, &n, "/proc", NULL), 0);
    for (size_t i = 0; i < n; i++) {
        int parent = 0;
        char state = 0;
        FILE *f = NULL;
        if (strspn(names[i], "0123456789") == strlen(names[i])) {
            snprintf(path, sizeof path, "/proc/%.20s/stat", names[i]);
            f = fopen(path, "r");
        }
        if (f && fscanf(f, "%*d (%*[^)]) %c %d", &state, &parent) == 2)
            fn(arg, atoi(names[i]), state == 'Z' ? 0 : parent);
        if (f)
            fclose(f);
    }
    fs_list_free(names);
}

typedef struct { const char *mark; pid_t parent; int signal, n; } search;

/* Everything a farm starts inherits the mark that launch() leaves in its environment. */
static void count_marked(void *arg, pid_t pid, pid_t parent)
{
    search *s = arg;
    char path[64], *text;
    size_t n, at = 0;

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    text = mem_new(1 << 16, 1);
    FILE *f = fopen(path, "r");
    n = f ? fread(text, 1, (1 << 16) - 1, f) : 0;
    if (f)
        fclose(f);
    for (; parent > 0 && at < n; at += strlen(text + at) + 1)
        s->n += strcmp(text + at, s->mark) == 0;
    free(text);
}

int running(const farm *f)
{
    char mark[200];
    search s = {.mark = mark};

    snprintf(mark, sizeof mark, "CFARM_TEST=%s", f->file);
    each_process(count_marked, &s);
    return s.n;
}

typedef struct { search s; const char *word; int n; } map_search;

static void look_into(void *arg, pid_t pid, pid_t parent)
{
    map_search *m = arg;
    char path[64], line[FS_PATH + 100];
    bool there = false;
    FILE *f;

    m->s.n = 0;
    count_marked(&m->s, pid, parent);
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    f = m->s.n > 0 ? fopen(path, "r") : NULL;
    while (f && !there && fgets(line, sizeof line, f))
        there = strstr(line, m->word) != NULL;
    if (f)
        fclose(f);
    m->n += there;
}

int mapping(const farm *f, const char *word)
{
    char mark[200];
    map_search m = {.s = {.mark = mark}, .word = word};

    snprintf(mark, sizeof mark, "CFARM_TEST=%s", f->file);
    each_process(look_into, &m);
    return m.n;
}

static void on_child(void *arg, pid_t pid, pid_t parent)
{
    search *s = arg;

    if (parent != s->parent)
        return;
    s->n++;
    if (s->signal)
        kill(pid, s->signal);
}

/* Sends it to all of them; 0: only counts. */
int children(pid_t parent, int signal)
{
    search s = {.parent = parent, .signal = signal};

    each_process(on_child, &s);
    return s.n;
}

/* It is the agent's own program, forked; workers are another one. */
static void on_kin(void *arg, pid_t pid, pid_t parent)
{
    search *s = arg;
    char path[64], mine[FS_PATH] = "", its[FS_PATH] = "";

    if (parent != s->parent)
        return;
    snprintf(path, sizeof path, "/proc/%d/exe", (int)s->parent);
    if (readlink(path, mine, sizeof mine - 1) < 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    if (readlink(path, its, sizeof its - 1) > 0 && strcmp(mine, its) == 0)
        s->n = (int)pid;
}

pid_t coordinator_of(pid_t agent)
{
    search s = {.parent = agent};

    each_process(on_kin, &s);
    return s.n;
}

void nothing_is_left(const farm *f)
{
    char cmd[200];

    for (int i = 0; i < 300 && running(f) > 0; i++)
        usleep(10000);
    assert_int_equal(running(f), 0);
    snprintf(cmd, sizeof cmd, "! find '%s/pets/obj' -name '.aside-*' | grep -q .", f->dir);
    assert_int_equal(system(cmd), 0);
}

void wait_for_words(const farm *f, const char *words)
{
    for (int i = 0; i < 1500; i++) {
        char *text = said(f);
        bool there = strstr(text, words) != NULL;
        free(text);
        if (there)
            return;
        usleep(10000);
    }
    fail_msg("it never said \"%s\":\n%s", words, said(f));
}

void kill_everything(pid_t pid)
{
    kill(pid, SIGSTOP); /* its children are found before they are orphans */
    children(pid, SIGKILL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void need_mpirun(void)
{
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* Open MPI keeps what it has allocated: no news */
    if (system("command -v mpirun >/dev/null") != 0) {
        fprintf(stderr, "mpirun is not installed: not tried\n");
        skip();
    }
}

static void set_environment(void)
{
    static const char *const pair[][2] = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
        {"OMPI_MCA_rmaps_base_oversubscribe", "1"}, {"OMPI_MCA_hwloc_base_binding_policy", "none"},
        {"OMPI_MCA_pml", "ob1"}, {"OMPI_MCA_plm", "isolated"}, {"CFARM_BACKOFF_MS", "50"}, {"CFARM_SILENCE_S", "30"},
        {"CFARM_STILL_S", "30"}};
    const char *bin = getenv("CFARM_BIN");
    char fake[FS_PATH];

    for (size_t i = 0; i < sizeof pair / sizeof pair[0]; i++)
        setenv(pair[i][0], pair[i][1], 1);
    snprintf(cfarm, sizeof cfarm, "%s/cfarm", bin ? bin : "");
    snprintf(fake, sizeof fake, "%s/../fake", bin ? bin : "");
    setenv("CFARM_PROGRAMS", fake, 1);
}

int farms_open(void **unused)
{
    (void)unused;
    if (!mkdtemp(root))
        return -1;
    set_environment();
    return 0;
}

int farms_close(void **unused)
{
    (void)unused;
    return fs_remove_tree(root, NULL);
}
