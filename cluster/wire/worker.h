#ifndef CF_WORKER_H
#define CF_WORKER_H
/* The written protocol between an agent (scheduler/) and a worker (trainer/). Neither knows the other's code: this page
 * and wire.h are all they share.
 *
 * START OF A WORKER. The agent runs `cfarm-worker --fd N`: N is one end of a socketpair, the only inherited descriptor
 * but 0 (nothing), 1 and 2 (a log file). The worker leads its own process group, is killed when its agent dies
 * (PR_SET_PDEATHSIG), ignores SIGINT, and finds OMP_NUM_THREADS set to its share of the cores. End of stream: exit.
 *
 * BODIES are JSON objects. A reader ignores keys it does not know; a missing or mistyped required key is the sender's
 * bug and is answered by FAILED with code "protocol". `?` marks an optional key. Paths are absolute.
 *
 * agent -> worker                                                                answered by
 *   LOAD  {protocol: 2, farm: DIR, base: PATH, epoch, slot, threads, pack?,
 *          backend?: "cpu"|"cuda", share?}                                       READY, or FAILED without job, exit 1
 *   START {job, attempt, name, settings: {...},
 *          gang: {rank, size, leaves, path?, meet?}, out?, pack?: bool,
 *          keep?: [PATH, PATH], every?, from?: [PATH, ...]}                      STARTED or FAILED
 *   STOP  {job, attempt, why, keep?: bool}                                       STOPPED
 *   QUIT  {}                                                                     end of stream, exit 0
 *
 * worker -> agent
 *   READY    {protocol: 2, pid, version, backend, memory, pack?} memory: bytes it can still use for training; pack: rule 10
 *   STARTED  {job, attempt}
 *   PROGRESS {job, attempt, phase: "loading"|"training"|"publishing", step, steps, loss?, seconds, joined?}
 *   DONE     {job, attempt, file?, sha256?, bytes?, seconds, summary: {...}}
 *   FAILED   {job?, attempt?, blame, retry, code, text, step?}
 *   CHECKPOINT {job, attempt, place: 0|1, step, bytes}           one stands whole in keep[place]
 *   STOPPED  {job, attempt}
 *   LOG      {text}                                             one line for the farm's log
 *
 * RULES
 * 1 Order. LOAD comes first and once. Then START, one at a time (but rule 10): the next START comes only after DONE, FAILED
 *   or STOPPED of the last one. STOP and QUIT may come at any time; the worker looks for them between two steps.
 * 2 Names. (job, attempt) names one training. Whatever carries another pair than the one under way is late: a STOP
 *   for it is answered STOPPED and changes nothing; a START equal to the one under way is answered STARTED again and
 *   changes nothing; a START for something else while one is under way is refused by FAILED with code "busy", and
 *   the one under way goes on.
 * 3 Heartbeat. PROGRESS is sent after a step, and at any sign of life while loading, at most ten times a second, at
 *   once when the phase changes. `step` counts finished steps and never goes back within an attempt. Between two steps an
 *   agent that sees no further one for WORKER_STILL_S, and for WORKER_STILL_STEPS times what a step takes here (`seconds`, as
 *   an average that forgets), holds the worker for hung and kills it. Before the first step and behind the last, where
 *   nothing was measured, it waits WORKER_SILENCE_S for any frame.
 *   joined: of the seconds of this step, those in which a member of a gang waited for the others and added up with them.
 * 4 Result. `out` is the path to write the finished concept file at: not its final name. It is written whole and
 *   synced before DONE. Only rank 0 of a gang has `out` and only it sends file (= out), sha256 (64 hexadecimal
 *   digits over the file) and bytes; the other ranks' DONE has none. Publishing (the content address, the public
 *   name, the journal) is the agent's and the coordinator's affair.
 * 5 Gang. size workers get a START that differs only in gang.rank and out. `path` names the shared-memory file they meet at
 *   when they are on one node, `meet` the place where files can be made that all of them see when they are on several
 *   (comm.h, comm_tcp; both absent when size is 1); the agent removes what is left there. Each rank answers for
 *   itself. When one fails or dies the agent kills the others: a worker need not, and must not, wait for more than
 *   its own timeout for a peer; it then fails with blame "node", code "gang".
 * 6 Numeric shape. The batch is cut into `leaves` equal parts, a power of two and a multiple of size, the same for a
 *   concept whatever its gang. A rank takes leaves/size consecutive ones, adds their gradients in a binary tree, and
 *   the tree goes on over the ranks: so the sum has the same bits for every gang.
 * 7 Failure. blame says what would have to change: WORKER_BLAMES below. retry false: the same again would fail the
 *   same way (a setting, a picture that cannot be read); the farm then quarantines at once. code is a short word for
 *   programs, text one sentence for people. After FAILED the worker is ready for the next START, or exits with
 *   status 1 when it is not.
 * 8 Death. A worker that ends by a signal or without an answer is judged by its status: the agent makes the FAILED
 *   for it.
 * 9 Checkpoints. `keep` names two files that are there, to be written in turn, each time whole before CHECKPOINT says so,
 *   about each `every` seconds (0: after each step), more seldom where that would cost more than a hundredth of the time;
 *   STOP with `keep` asks for one more, before STOPPED. `from` names files that may hold one, the same two among them
 *   perhaps: the worker goes on from the newest that is whole and made under the same settings, numeric shape, model and
 *   program, tells by LOG what it passes over, and begins anew when there is none. Only rank 0 of a gang has the three:
 *   it hands what it read to the others. What is in the files is the worker's affair alone.
 * 10 Packs. READY's `pack` says how many trainings the worker holds at once: LOAD's, or fewer; one without it. START with
 *   `pack` (size 1) may come beside others that have it, as many in all: each is answered for itself, in whatever order, and
 *   STOP takes out one. They share a graph, so their settings must be of one class: whoever --check gave the same `alike`. One of
 *   another class, or without `pack`, while some are under way is refused by FAILED with blame "node" and code "busy",
 *   and the others go on. Code "pack": there is no room for a pack here. The result has the bytes of a training alone. Each has
 *   its own checkpoints. Of three and more one waits, loaded, for the first who ends, while others take steps: STOP is answered
 *   there, too. A member that stands between loading and its first step, or behind its last, is silent for as
 *   long as others are loaded and written; between two steps rule 3 holds for each. Of a death nobody knows
 *   which member caused it: none is blamed (code "pack"), and each is tried again alone; the last member left is blamed as ever.
 * 11 Backend. `cuda`: the worker trains on the first device that CUDA_VISIBLE_DEVICES shows it and takes at most `share` (0 to 1)
 *   of its memory; where the build, a driver or a device is missing it says which and ends. A device that fails is no worker's
 *   any more: after FAILED with blame "gpu" the worker exits with status 1, and another is started.
 * 12 Versions. Protocol 1 is this one without `pack`; a worker obeys both and answers in the one that LOAD spoke.
 *
 * `cfarm-worker --check FARM.yaml [--piece PIECE] [--json]` tells what `cfarm plan` shows: it reads the settings, the
 * pictures and the model's files and prints what would run; status 0, or 2 with one line per mistake on stderr. It
 * trains nothing and writes nothing. With --piece it tells of PIECE alone (a table or YAML, farmfile.h), under the
 * farm's defaults. With --json it prints one object instead, read before a concept is accepted:
 *   {concepts: [{name, steps, batch, leaves, alike?}]}   steps * batch orders the queue; leaves: the widest gang (rule 6);
 *                                                        alike: of its class (rule 10), without it it shares no worker */

enum { WORKER_PROTOCOL = 2, WORKER_SILENCE_S = 600, WORKER_STILL_S = 10, WORKER_STILL_STEPS = 20 };

enum {
    WORKER_LOAD = 1, WORKER_START, WORKER_STOP, WORKER_QUIT,
    WORKER_READY = 17, WORKER_STARTED, WORKER_PROGRESS, WORKER_DONE, WORKER_FAILED, WORKER_STOPPED, WORKER_LOG,
    WORKER_CHECKPOINT
};

/* Whose fault: the concept, the accelerator, the machine, the disk, or the settings. */
#define WORKER_BLAMES "job", "gpu", "node", "store", "settings"
#endif
