#ifndef LINK_H
#define LINK_H
/* The written protocol between an agent and the coordinator: frames of cluster/wire/wire.h with JSON bodies over TCP.
 *
 * Both begin with NONCE {nonce}, in clear; from then on every frame is sealed under the farm's token (wire.h), which is
 * never sent: who does not know it is not understood, and what was altered or repeated ends the connection.
 *
 * agent -> coordinator
 *   HELLO    {protocol: 3, node, pid, slots, cores, memory, epoch, links?: [...], running: [{job, attempt, gang, pack?, part?,
 *            ended?, ahead?, slots: [...]}]}
 *            first. epoch: the last one obeyed, 0: none yet. running: what it still works at, from before; slots empty:
 *            only its answer is still to be said; part: true, of a gang over several nodes (its ranks first, first + 1, ... of
 *            size), which is taken over when all its parts are told within some seconds; ended: true, such a part that is
 *            over, and has said so: the others may not be. ahead: true, it comes next on its slot, told behind the one that is
 *            there. links: of each slot a number, the same for slots whose GPUs are linked best; without it nobody knows
 *   BEAT     {}                                                      each second
 *   SLOT     {slot, state: "warming"|"ready"|"down", pack?, text?}   at every change; pack: trainings at once
 *   PROGRESS {job, attempt, phase, step, steps, loss?, seconds, joined?} first one: the order is accepted; joined: as worker.h
 *                                                                    has it
 *   DONE     {job, attempt, sha256, bytes, seconds, summary}         published: out/NAME.h5 is there; of a part that has not rank
 *                                                                    0: it has ended, without the rest
 *   FAILED   {job, attempt, blame, retry, code, text, step}          also: the order cannot be carried out
 *   STOPPED  {job, attempt, step?, why?}                             step: of the checkpoint on the disk, with keep; why: the order
 *                                                                    was not begun, as the node leaves or a slot is not free, which
 *                                                                    SLOT has told before, and tells again when it is
 *   LOG      {slot, text}
 *   LEAVE    {}                                                      it goes: all its slots are down, and it has answered all
 *                                                                    it was ordered
 * coordinator -> agent
 *   WELCOME  {farm, base, epoch, pack?, checkpoint?}                 an epoch lower than obeyed before is left at once; pack:
 *                                                                    trainings that a worker may hold at once, 1 without it;
 *                                                                    checkpoint: seconds between two of a training on the disk,
 *                                                                    0 or less: none until it must go
 *   BEAT     {}                                                      for each BEAT
 *   RUN      {job, attempt, name, settings, leaves, slots: [...], pack?: bool, ahead?: bool, first?, size?}
 *                                                                    rank r on slots[r]; pack: beside others, on one slot;
 *                                                                    ahead: as soon as the one on its slot has ended;
 *                                                                    first, size: a part, rank first + r of size, who meet at
 *                                                                    FARM/gang/JOB-ATTEMPT
 *   HALT     {job, attempt, why, keep?: bool, unbegun?: bool}        keep: its checkpoint is on the disk before the answer;
 *                                                                    unbegun: only if nothing of it has begun, else not heard.
 *                                                                    Of a part that has ended: it is not told of again
 *   LEAVE    {}                                                      for LEAVE: nothing of this node is under way any more, and
 *                                                                    no order is on its way to it
 *   END      {now?: bool}                                            what runs is halted and kept, or not even that; then
 *                                                                    the agent leaves
 *
 * Every RUN ends in exactly one of DONE, FAILED, STOPPED. Before that answer the agent has told, by SLOT, which of its
 * slots will not be ready at once: a slot is free before it is promised again. (job, attempt) as in worker.h, rule
 * 2.
 *
 * Farewell. An order may cross a node's "down" on the way: the agent answers it STOPPED, and waits for LEAVE's answer before it
 * hangs up. So a node that leaves in order costs nobody a failure; one whose connection ends without it is lost.
 *
 * Leases. A connection belongs to one epoch, and an agent obeys the highest it has seen. A connection that ends is sought
 * again; what runs goes on meanwhile, and the next coordinator takes it over as it is told in HELLO (an attempt that it has
 * given up is halted). A node that is not heard for LINK_LEASE_S is lost; an agent that has had no proof for so long that
 * it is heard halts what it trains.
 *
 * Checkpoints are the agent's affair: RUN names none. An attempt goes on from what this node's memory or FARM/ckpt/NAME has
 * of it; before FAILED is said, the newest is on the disk, so that another node may be the next. */

enum { LINK_PROTOCOL = 3, LINK_SUSPECT_S = 5, LINK_LEASE_S = 15 };

enum {
    LINK_NONCE = 31, LINK_BEAT, LINK_HELLO, LINK_SLOT, LINK_PROGRESS, LINK_DONE, LINK_FAILED, LINK_STOPPED, LINK_LOG, LINK_LEAVE,
    LINK_WELCOME = 49, LINK_RUN, LINK_HALT, LINK_END
};
#endif
