/* findings_toy COMMAND ...: the world's files, the finder, sums of concepts, KID; for findings.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/findings/toy.h"

static int usage(void)
{
    fputs("usage: findings_toy world DIR\n"
          "       findings_toy learn FILE STEPS\n"
          "       findings_toy exam FILE PICTURES\n"
          "       findings_toy find FILE PICTURE...\n"
          "       findings_toy tell EXAMINER PICTURE...\n"
          "       findings_toy add BASE A.h5 B.h5 OUT.h5\n"
          "       findings_toy kid CLIP FOLDER AGAINST\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    err e = {0};
    int rc;

    if (strcmp(verb, "world") == 0 && argc == 3)
        rc = findings_world(argv[2], &e);
    else if (strcmp(verb, "learn") == 0 && argc == 4 && atoi(argv[3]) > 0)
        rc = findings_learn(argv[2], atoi(argv[3]), &e);
    else if (strcmp(verb, "exam") == 0 && argc == 4 && atoi(argv[3]) > 0)
        rc = findings_exam(argv[2], atoi(argv[3]), &e);
    else if (strcmp(verb, "find") == 0 && argc > 3)
        rc = findings_find(argv[2], argv + 3, argc - 3, &e);
    else if (strcmp(verb, "tell") == 0 && argc > 3)
        rc = findings_tell(argv[2], argv + 3, argc - 3, &e);
    else if (strcmp(verb, "add") == 0 && argc == 6)
        rc = findings_add(argv[2], argv[3], argv[4], argv[5], &e);
    else if (strcmp(verb, "kid") == 0 && argc == 5)
        rc = findings_kid(argv[2], argv[3], argv[4], &e);
    else
        return usage();
    if (rc != 0)
        fprintf(stderr, "findings_toy %s: %s\n", verb, e.text);
    return rc != 0;
}
