/* The commands' common ground. */
#include "scheduler/look.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "scheduler/coordinator.h"
#include "scheduler/prepare.h"

enum { TAKE_TRIES = 500, TAKE_WAIT_US = 10000 };

int look_complain(const err *e)
{
    fprintf(stderr, "cfarm: %s\n", e->text);
    return e->code == ERR_INPUT || e->code == ERR_SHAPE ? FARM_BAD_INPUT : FARM_BROKEN;
}

int look_folder(char out[FS_PATH], const char *arg, err *e)
{
    prepared p;
    int rc;

    if (fs_is_dir(arg)) {
        TRY(fs_join(out, "", arg, e));
    } else {
        rc = prepare_read(&p, arg, 0, e);
        if (rc == 0)
            rc = fs_join(out, "", p.f->dir, e);
        prepare_free(&p);
        TRY(rc);
        if (!fs_is_dir(out))
            return err_set(e, ERR_INPUT, "%s: no farm has run here; cfarm train %s begins one", out, arg);
    }
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--)
        out[n - 1] = '\0';
    return 0;
}

int look_open(ledger **out, const char *dir, err *e)
{
    int rc = ledger_look(out, dir, e);

    if (rc == 0)
        rc = spool_look(*out, dir, e);
    if (rc != 0) {
        ledger_close(*out);
        *out = NULL;
    }
    return rc;
}

int64_t look_wall_ms(const char *iso)
{
    struct tm t = {0};
    int ms = 0;

    if (!iso || sscanf(iso, "%d-%d-%dT%d:%d:%d.%d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec, &ms) < 6)
        return 0;
    t.tm_year -= 1900;
    t.tm_mon--;
    return (int64_t)timegm(&t) * 1000 + ms;
}

bool look_json(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--json") != 0)
            continue;
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof *argv);
        --*argc;
        return true;
    }
    return false;
}

int look_order(look_fate *out, char id[SPOOL_ID], const char *dir, json_t *order, err *e)
{
    char why[400];
    bool busy;

    TRY(spool_put(id, dir, order, e));
    busy = ledger_busy(dir);
    for (int i = 0; i < TAKE_TRIES && busy && spool_has(dir, id); i++) {
        usleep(TAKE_WAIT_US);
        busy = ledger_busy(dir);
    }
    if (spool_refused(dir, id, why, sizeof why))
        return err_set(e, ERR_PEER, "the farm has refused the order: %s", why);
    *out = !spool_has(dir, id) ? LOOK_TAKEN : busy ? LOOK_WAITS : LOOK_RESTS;
    return 0;
}

const char *look_fate_text(look_fate f)
{
    switch (f) {
    case LOOK_TAKEN: return "the farm has taken it up";
    case LOOK_WAITS: return "it is on the disk; the farm runs and will take it up when it can";
    default:         return "it is on the disk; the farm does not run now, and takes it up at its next start";
    }
}
