/* slurm.h: sbatch, squeue, scancel, sinfo and srun, as links to this binary: the options and columns in daily use.
 *
 * sbatch carries the script along: the worker needs no copy of it. What has no meaning here is refused by name, but for
 * what only accounts or mails (--account, --qos, --mail-type, ...), which is passed over with a note. */
#ifndef ROTA_CLI_SLURM_H
#define ROTA_CLI_SLURM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

bool slurm_name(const char *name);
int slurm_main(int argc, char **argv);

/* Minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS. */
int slurm_time(const char *text, int64_t *seconds, struct err *err);
/* afterok:1:2,afterany:3 -> "1,2" and "3:any" as values of --after, each on a line. */
int slurm_dependency(const char *text, struct buf *lines, struct err *err);
/* A file name pattern as a word of the shell: %j and %A are the job, %a the index, %x the name, %u the user, %% a per
 * cent sign. */
void slurm_pattern(struct buf *word, const char *pattern, const char *name);

#endif
