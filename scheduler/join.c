/* `cfarm agent --join FARM`, and what every agent does first: see what this machine has. */
#include "scheduler/join.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/fs.h"
#include "cluster/base/json.h"
#include "scheduler/child.h"
#include "scheduler/commands.h"
#include "scheduler/coordinator.h"

/* Where the launcher does not say it by its ranks: a worker for each two cores, as long as there is memory for its
 * model (8 GiB hold Stable Diffusion 1.5 in f32 with its activations). */
int join_slots(const node_facts *node)
{
    return node_workers(node);
}

static int auto_slots(const meet_place *place, const node_facts *node)
{
    return place->local_size > 1 ? place->local_size : join_slots(node);
}

static int read_links(agent_options *o, const char *said, size_t n, err *e)
{
    json_t *list;

    TRY(json_parse(&list, said, n, "cfarm-worker --links", e));
    o->linked = json_array_size(list) == (size_t)o->devices;
    for (int i = 0; o->linked && i < o->devices; i++)
        o->link[i] = (int)json_integer_value(json_array_get(list, (size_t)i));
    json_decref(list);
    return o->linked ? 0 : err_set(e, ERR_DEVICE, "it does not see the %d GPUs that are to be used", o->devices);
}

/* By a program of its own, as this one touches no library of a GPU's. */
static int ask_links(agent_options *o, err *e)
{
    enum { SAID_MOST = 4096 };
    char program[FS_PATH], *said = NULL;
    const char *argv[] = {program, "--links", NULL};
    size_t n = 0;
    int status;

    TRY(child_program(program, "cfarm-worker", e));
    TRY(child_output(argv, &said, &n, SAID_MOST, &status, e));
    int rc = status == 0 ? read_links(o, said, n, e) : err_set(e, ERR_DEVICE, "it was not told");
    free(said);
    return rc;
}

/* Not to know costs a gang some speed, no more. */
static void find_links(agent_options *o)
{
    err e = {0};

    if (o->devices > 1 && ask_links(o, &e) != 0)
        fprintf(stderr, "cfarm: which GPUs of this machine are linked is not known, so gangs take any of them: %s\n", e.text);
}

/* A worker a GPU, or as many as the farm file says, which share the GPUs out. Their address space is CUDA's affair: it reserves
 * far more than it uses, so their memory of the machine is not limited. */
static int share_devices(agent_options *o, const door *d, const node_facts *node, err *e)
{
    o->devices = node_devices(o->device);
    if (o->devices == 0)
        return err_set(e, ERR_DEVICE, "backend: cuda: this machine shows no GPU; see /dev/nvidia0 and CUDA_VISIBLE_DEVICES");
    find_links(o);
    o->slots = d->workers > 0 ? (int)d->workers : o->devices;
    int to_each = (o->slots + o->devices - 1) / o->devices;
    o->share = d->memory / to_each;
    o->threads = d->threads > 0 ? (int)d->threads : node->cores / o->slots;
    o->memory = 0;
    return 0;
}

int join_farm(const door *d, const meet_place *place, agent_coordinator *coordinator, const char *farm)
{
    agent_options o = {.door = *d, .coordinator = coordinator, .farm = farm};
    node_facts node;
    err e = {0};

    if (node_cores_use(&place->cores, &e) != 0)
        fprintf(stderr, "cfarm: %s\n", e.text); /* slower, not wrong */
    node_look(&node);
    o.node = node.name;
    o.slots = d->workers > 0 ? (int)d->workers : auto_slots(place, &node);
    o.threads = d->threads > 0 ? (int)d->threads : node.cores / o.slots;
    o.memory = (uint64_t)(d->memory * (double)node.memory) / (uint64_t)o.slots;
    int rc = d->cuda ? share_devices(&o, d, &node, &e) : 0;
    if (o.threads < 1)
        o.threads = 1;
    if (rc == 0 && agent_run(&o, &e) == 0)
        return FARM_DONE;
    fprintf(stderr, "cfarm: agent on %s: %s\n", node.name, e.text);
    return FARM_BROKEN;
}

static int usage(void)
{
    fputs("usage: cfarm agent --join FARM [--workers N]\n"
          "  --join FARM   the folder of a farm that runs, on this machine or another; one that runs on another\n"
          "                must be reachable: started over several nodes, in a Slurm job, or with --open\n"
          "  --workers N   workers on this node; without it as the farm has it, or one for each two cores and 8 GiB\n"
          "TERM and USR1 make it leave: what it trains is kept in the farm's folder, and goes on elsewhere\n",
          stderr);
    return FARM_BAD_INPUT;
}

int command_agent(int argc, char **argv)
{
    const char *farm = NULL;
    int workers = 0;
    meet_place place = {.size = 1, .local_size = 1, .nodes = 1};
    door d;
    err e = {0};

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--join") == 0 && i + 1 < argc && !farm)
            farm = argv[++i];
        else if (strcmp(argv[i], "--workers") == 0 && i + 1 < argc && atoi(argv[i + 1]) > 0)
            workers = atoi(argv[++i]);
        else
            return usage();
    if (!farm)
        return usage();
    if (door_read(&d, farm, &e) != 0) {
        fprintf(stderr, "cfarm agent: %s\n", e.text);
        return FARM_BAD_INPUT;
    }
    if (workers > 0)
        d.workers = workers;
    node_cores_get(&place.cores);
    return join_farm(&d, &place, NULL, farm);
}
