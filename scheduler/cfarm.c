/* cfarm: the command. What touches neither tensors nor pictures is done here; the rest by a program beside this one, as
 * git does: `cfarm merge ...` runs `cfarm-merge merge ...`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/base/err.h"
#include "cluster/base/fs.h"
#include "cluster/base/str.h"
#include "cluster/node/node.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"

typedef struct {
    const char *name;
    int (*run)(int argc, char **argv); /* NULL: `program` does it */
    const char *program;
    bool keeps_verb;                   /* it has several commands and wants to know which */
    const char *help;
} command;

static int command_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    puts("cfarm " CFARM_VERSION);
    return FARM_DONE;
}

static int command_help(int argc, char **argv);

static const command commands[] = {
    {"train", command_train, NULL, false, "train what a farm file asks for; goes on where it was left"},
    {"agent", command_agent, NULL, false, "one more node for a farm that runs: --join FARM"},
    {"plan", command_plan, NULL, false, "check a farm file, its pictures and its model; train nothing"},
    {"status", command_status, NULL, false, "how far a farm is"},
    {"top", command_top, NULL, false, "the same, again and again"},
    {"metrics", command_metrics, NULL, false, "the same for Prometheus and what reads its text"},
    {"logs", command_logs, NULL, false, "what happened to a concept"},
    {"why", command_why, NULL, false, "why a concept is where it is"},
    {"add", command_add, NULL, false, "give a farm more concepts, whether it runs or rests"},
    {"cancel", command_order, NULL, false, "take concepts out; what runs is stopped"},
    {"retry", command_order, NULL, false, "put quarantined, rejected or cancelled concepts back in the line"},
    {"hold", command_order, NULL, false, "keep concepts from starting, until they are released"},
    {"release", command_order, NULL, false, "let what is on hold start"},
    {"priority", command_order, NULL, false, "make concepts urgent, normal or background"},
    {"drain", command_drain, NULL, false, "let what runs end, then end the farm"},
    {"stop", command_drain, NULL, false, "stop what runs, to go on at the next start, and end the farm"},
    {"replay", command_replay, NULL, false, "train a quarantined concept here, from what was set aside of it"},
    {"submit", command_submit, NULL, false, "write a farm's Slurm script and queue it"},
    {"report", command_report, NULL, false, "a farm as one page: curves, pictures, time, settings, certificates"},
    {"fsck", command_fsck, NULL, false, "hold a farm's results and orders to its journal"},
    {"audit", command_audit, NULL, false, "prove or disprove what a farm promises, from its journal, results and logs"},
    {"gc", command_gc, NULL, false, "remove what no concept of a farm needs"},
    {"merge", NULL, "cfarm-merge", true, "several concept files become one"},
    {"inspect", NULL, "cfarm-merge", true, "what is in a concept or merged file"},
    {"diff", NULL, "cfarm-merge", true, "what differs between two concept or merged files"},
    {"export", NULL, "cfarm-merge", true, "write what other programs read"},
    {"import", NULL, "cfarm-merge", true, "read what other programs wrote"},
    {"sample", NULL, "cfarm-sample", false, "make pictures"},
    {"eval", NULL, "cfarm-eval", true, "measure how well a concept was learned"},
    {"init", NULL, "cfarm-eval", true, "a commented farm file for a folder of pictures"},
    {"reg", NULL, "cfarm-eval", true, "index captioned pictures, for regularisation"},
    {"bench", NULL, "cfarm-worker", true, "how fast this machine is at a model's parts"},
    {"calibrate", command_calibrate, NULL, false, "measure here what cfarm plan and simulate reckon with"},
    {"simulate", command_simulate, NULL, false, "what a farm of any size would make of any number of concepts"},
    {"doctor", command_doctor, NULL, false, "what this machine has, and what its launcher does when a rank dies"},
    {"version", command_version, NULL, false, "the version"},
    {"help", command_help, NULL, false, "this page"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int show_help(FILE *to)
{
    fputs("usage: cfarm COMMAND ...\n", to);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
    fputs("exit status: 0 all done; 1 some concepts failed; 2 a mistake in what was given, nothing begun;\n"
          "             3 the farm could not go on; 20 stopped by the machine (TERM, USR1, the time limit) and\n"
          "             130 by a person: the same command goes on\n"
          "under a launcher: mpirun -np 4 cfarm train FARM.yaml\n",
          to);
    return to == stdout ? FARM_DONE : FARM_BAD_INPUT;
}

static int command_help(int argc, char **argv)
{
    (void)argc, (void)argv;
    return show_help(stdout);
}

static int unknown(const char *word)
{
    const char *names[COMMANDS + 1] = {0};
    const char *near;

    for (int i = 0; i < COMMANDS; i++)
        names[i] = commands[i].name;
    near = str_nearest(word, names);
    fprintf(stderr, "cfarm: %s is no command%s%s; see cfarm help\n", word, near ? "; did you mean " : "",
            near ? near : "");
    return FARM_BAD_INPUT;
}

static int hand_over(const command *c, char **argv)
{
    char program[FS_PATH];
    err e = {0};

    if (child_program(program, c->program, &e) != 0) {
        fprintf(stderr, "cfarm %s: %s\n", c->name, e.text);
        return FARM_BROKEN;
    }
    if (c->keeps_verb)
        argv--; /* the command's name stays its first argument */
    argv[0] = program;
    node_brief_waits(false); /* threads that spin for long would take the core another one waits for (trainer/nn/README.md) */
    execv(program, argv);
    fprintf(stderr, "cfarm %s: %s cannot be run\n", c->name, program);
    return FARM_BROKEN;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (strcmp(word, "--version") == 0)
        return command_version(0, NULL);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return show_help(stdout);
    if (!*word)
        return show_help(stderr);
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(word, commands[i].name) == 0)
            return commands[i].run ? commands[i].run(argc - 1, argv + 1) : hand_over(&commands[i], argv + 1);
    return unknown(word);
}
