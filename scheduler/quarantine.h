#ifndef QUARANTINE_H
#define QUARANTINE_H
/* What is set aside of a concept that is quarantined or rejected: FARM/quarantine/NAME, whole or not there, with
 *   farm.yaml, origin   a farm of this concept alone, with the settings it ran with
 *   failure.json        attempt, blame, what was said, the step, where; each picture with its SHA-256
 *   log.txt             the last lines that its worker printed
 * `cfarm replay` trains from it. Pictures are hashed as bytes; nothing here is decoded. */
#include <stdint.h>

#include "cluster/base/err.h"

typedef struct {
    const char *farm;            /* its folder */
    const char *name, *settings; /* JSON, as the journal has it */
    const char *blame, *code, *text, *state, *node;
    int attempt, slot;           /* slot of the node, -1: not known */
    int64_t step;
} quarantine_case;

int quarantine_keep(const quarantine_case *q, err *e);
/* farm.yaml and origin alone, into a folder that is there. */
int quarantine_farm(const char *dir, const char *name, const char *settings, err *e);
#endif
