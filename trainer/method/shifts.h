#ifndef SHIFTS_H
#define SHIFTS_H
/* Shifts of singular values in a concept file, for those who write or read them under other names. */
#define SHIFTS_TAIL ".shift"          /* WEIGHT without ".weight", and this */
#define SHIFTS_NORM_UNIT 1e-3f        /* the shifts of norms (weights that are vectors) are kept in thousandths */
#endif
