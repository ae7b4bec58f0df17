#ifndef SUBMIT_H
#define SUBMIT_H
/* The Slurm scripts of cluster/launch/slurm as text in the program, made by the build from those files, so that
 * `cfarm submit` needs no source tree. */
extern const char submit_farm[];        /* farm.sbatch */
extern const char submit_farm_mpirun[]; /* farm-mpirun.sbatch */
extern const char submit_agents[];      /* agents.sbatch */
#endif
