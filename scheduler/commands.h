#ifndef COMMANDS_H
#define COMMANDS_H
/* The commands of `cfarm`, one function each: argv[0] is the command's name. They return the exit status
 * (coordinator.h). */

int command_train(int argc, char **argv);
int command_agent(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_status(int argc, char **argv);
int command_top(int argc, char **argv);
int command_metrics(int argc, char **argv);
int command_logs(int argc, char **argv);
int command_why(int argc, char **argv);
int command_fsck(int argc, char **argv);
int command_audit(int argc, char **argv);
int command_gc(int argc, char **argv);
int command_add(int argc, char **argv);
int command_order(int argc, char **argv); /* cancel, retry, hold, release, priority */
int command_drain(int argc, char **argv); /* drain, stop */
int command_replay(int argc, char **argv);
int command_submit(int argc, char **argv);
int command_report(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_calibrate(int argc, char **argv);
int command_simulate(int argc, char **argv);
#endif
