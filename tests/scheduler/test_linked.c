/* Laws of gangs and links: a gang takes slots whose GPUs are linked best where that many are free, the smallest such group, so that
 * large ones stay whole; a node where it lies within one group comes before one where it does not; it never waits for links, and
 * takes a slow slot no sooner for them; where nobody knows, all slots are alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scheduler/sched_kit.h"

enum { MOST = 8 };

/* A node whose slots are linked as `groups` says, a digit a slot, all of them warm. */
static void linked_node(farm *f, const char *name, const char *groups)
{
    int links[MOST], n = (int)strlen(groups), at = f->s->nodes;

    for (int i = 0; i < n; i++)
        links[i] = groups[i] - '0';
    assert_int_equal(step(f, (sched_event){.type = EV_NODE_UP, .name = name, .slots = n, .links = links}), 0);
    for (int i = 0; i < n; i++)
        warm(f, at, i);
}

static void taken(farm *f, int node, const char *slots)
{
    for (const char *s = slots; *s; s++)
        assert_int_equal(step(f, (sched_event){.type = EV_SLOT, .node = node, .slot = *s - '0', .becomes = SLOT_DOWN}), 0);
}

/* Where the first training lies: "n:" and its slots in the order of ranks. */
static const char *lies(const farm *f)
{
    static char text[MOST + 3];
    const sched_effects *todo = &f->todo;

    for (size_t k = 0; k < todo->n; k++) {
        const sched_effect *at = &todo->at[k];
        if (at->type != DO_START || at->job != 0)
            continue;
        assert_in_range(at->gang, 1, MOST);
        text[0] = (char)('0' + at->node);
        text[1] = ':';
        for (int r = 0; r < at->gang && r < MOST; r++)
            text[2 + r] = (char)('0' + at->slot[r]);
        text[2 + at->gang] = '\0';
        return text;
    }
    return "";
}

static const struct {
    const char *law, *groups[2], *down[2]; /* of up to two nodes; slots that are down */
    int leaves;                            /* the widest gang */
    const char *lies;
} CASES[] = {
    {"nobody knows: in order", {"0000"}, {"0"}, 2, "0:12"},
    {"linked ones", {"0101"}, {""}, 2, "0:02"},
    {"linked ones, though others come first", {"0121"}, {""}, 2, "0:13"},
    {"the smallest group that has enough", {"00001122"}, {"6"}, 2, "0:45"},
    {"one alone leaves the large group whole", {"00001122"}, {"4"}, 1, "0:5"},
    {"no group has enough: as few as do", {"01202"}, {"1"}, 4, "0:0324"},
    {"none has enough: it does not wait", {"0123"}, {""}, 4, "0:0123"},
    {"a node where it lies within one", {"0122", "0000"}, {"2", ""}, 2, "1:01"},
    {"of such nodes the fullest", {"0000", "0011"}, {"", "0"}, 2, "1:23"},
};

static void a_gang_takes_linked_slots_where_they_are_free(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        farm f = farm_new();
        submit(&f, "a", PRIORITY_NORMAL, 10, CASES[i].leaves);
        for (int n = 0; n < 2 && CASES[i].groups[n]; n++) {
            linked_node(&f, n ? "n1" : "n0", CASES[i].groups[n]);
            taken(&f, n, CASES[i].down[n]);
        }
        assert_int_equal(step(&f, (sched_event){.type = EV_OPEN}), 0);
        if (strcmp(lies(&f), CASES[i].lies) != 0)
            fail_msg("%s: %s, not %s", CASES[i].law, lies(&f), CASES[i].lies);
        farm_free(&f);
    }
}

static void a_slow_slot_is_taken_no_sooner_for_its_links(void **unused)
{
    farm f = farm_new();

    (void)unused;
    submit(&f, "a", PRIORITY_NORMAL, 10, 2);
    linked_node(&f, "n0", "0012");
    f.s->node[0].slot[0].slow_ms = 1;
    f.s->slows = 1;
    assert_int_equal(step(&f, (sched_event){.type = EV_OPEN}), 0);
    assert_string_equal(lies(&f), "0:12");
    farm_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gang_takes_linked_slots_where_they_are_free),
        cmocka_unit_test(a_slow_slot_is_taken_no_sooner_for_its_links),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
