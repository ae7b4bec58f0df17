#ifndef LINK_H
#define LINK_H
/* The written protocol between an agent and the coordinator: frames of cluster/wire/wire.h with JSON bodies over TCP.
 *
 * agent -> coordinator
 *   HELLO    {protocol: 1, token, node, pid, slots, cores, memory}   first; a wrong token ends the connection
 *   SLOT     {slot, state: "warming"|"ready"|"down", text?}          at every change
 *   PROGRESS {job, attempt, phase, step, steps, loss?, seconds}      first one: the order is accepted
 *   DONE     {job, attempt, sha256, bytes, seconds, summary}         published: out/NAME.h5 is there
 *   FAILED   {job, attempt, blame, retry, code, text, step}          also: the order is refused
 *   STOPPED  {job, attempt, step?}                                   step: of the checkpoint on the disk, with keep
 *   LOG      {slot, text}
 * coordinator -> agent
 *   WELCOME  {farm, base, epoch}
 *   RUN      {job, attempt, name, settings, leaves, slots: [...]}    rank r on slots[r]
 *   HALT     {job, attempt, why, keep?: bool}                        keep: its checkpoint is on the disk before the answer
 *   END      {now?: bool}                                            what runs is halted and kept, or not even that; then
 *                                                                    the agent leaves
 *
 * Every RUN ends in exactly one of DONE, FAILED, STOPPED. Before that answer the agent has told, by SLOT, which of its
 * slots will not be ready at once: a slot is free before it is promised again. (job, attempt) as in worker.h, rule
 * 2.
 *
 * Checkpoints are the agent's affair: RUN names none. An attempt goes on from what this node's memory or FARM/ckpt/NAME has
 * of it; before FAILED is said, the newest is on the disk, so that another node may be the next. */

enum { LINK_PROTOCOL = 1 };

enum {
    LINK_HELLO = 33, LINK_SLOT, LINK_PROGRESS, LINK_DONE, LINK_FAILED, LINK_STOPPED, LINK_LOG,
    LINK_WELCOME = 49, LINK_RUN, LINK_HALT, LINK_END
};
#endif
