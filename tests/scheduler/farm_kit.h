#ifndef FARM_KIT_H
#define FARM_KIT_H
/* Whole farms as processes, each in a folder of its own, with the worker that does as it is told (fake_worker.c). */
#include <stdbool.h>
#include <sys/types.h>

#include "cluster/base/fs.h"
#include "scheduler/sched.h"

typedef struct { char dir[64], file[128], said[128]; } farm;
typedef struct { int starts, dones, fails; int widest; } tally;

extern char cfarm[FS_PATH];                  /* the program */

int farms_open(void **unused);               /* for cmocka's group */
int farms_close(void **unused);

farm farm_new(const char *concepts, const char *more); /* lines of the YAML list; any other top-level keys */
void farm_rewrite(const farm *f, const char *concepts);
pid_t launch(const farm *f, const char *const *argv);
pid_t train_begin(const farm *f, const char *workers);
int end_of(const farm *f, pid_t pid);        /* its exit status, or 1000 and a signal; hanging fails the test */
void expect_end(const farm *f, pid_t pid, int status);
void train(const farm *f, const char *workers, int status);

tally journal_of(const farm *f);
int files_in(const farm *f, const char *sub); /* of the farm's folder; -1: no such one */
bool has_result(const farm *f, const char *name);
char *result(const farm *f, const char *name);
char *said(const farm *f);                   /* all the farm has said; free() it */
void wait_for_words(const farm *f, const char *words);

int mapping(const farm *f, const char *word); /* its processes that have a file with this word in its name in their memory */
int running(const farm *f);                  /* processes of that farm */
int children(pid_t parent, int signal);      /* how many; 0: only counts them */
pid_t coordinator_of(pid_t agent);           /* its child that is no worker; 0: none at the moment */
void nothing_is_left(const farm *f);
void kill_everything(pid_t pid);
void need_mpirun(void);                      /* or the test is skipped, by name */
#endif
