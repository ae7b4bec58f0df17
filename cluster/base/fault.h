#ifndef CF_FAULT_H
#define CF_FAULT_H
/* Faults on purpose. Tests set CFARM_FAULT="point:n[:what],..." and the n-th passage of a named point fails
 * (what: "error" by default, "kill", "exit", "hang"). Without the variable a point costs one load and a branch. */
#include <stdbool.h>

/* True when this passage shall fail; "kill", "exit" and "hang" do not return. */
bool fault_here(const char *point);
/* Looks at the variable again, with all counts at zero: for tests that set it themselves. */
void fault_reread(void);
#endif
