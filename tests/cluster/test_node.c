/* What a machine is said to have is what it has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/node/node.h"
#include "tests/cluster/scratch.h"

static void a_node_has_a_name_cores_and_memory(void **unused)
{
    node_facts n;
    (void)unused;
    node_look(&n);
    assert_true(n.name[0] != '\0');
    assert_in_range(n.cores, 1, n.cores_there);
    assert_true(n.memory > 1 << 20 && n.memory_free <= n.memory + (1 << 20));
    assert_true(n.gpus >= 0);
}

/* By number, whole GPUs and parts of one (MIG) by their names; what CUDA cannot read ends its list, and ours. */
static void devices_are_called_what_the_variable_calls_them(void **unused)
{
    static const struct { const char *list; int n; const char *last; } CASES[] = {
        {"0", 1, "0"},
        {"3,1", 2, "1"},
        {"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,2", 2, "2"},
        {"MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2", 1, "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2"},
        {"MIG-5d2f3a1e-9b36-5c0d-8d3a-2f6c4d6ad111,MIG-73a5e2b0-6f4e-5a38-9d1f-1c84c1b6b222", 2, "MIG-73a5e2b0-6f4e-5a38-9d1f-1c84c1b6b222"},
        {"1,-1,0", 1, "1"},
        {"0,,2", 1, "0"},
        {"", 0, NULL},
        {"-1", 0, NULL},
    };
    char out[NODE_DEVICES][NODE_DEVICE];

    (void)unused;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        setenv("CUDA_VISIBLE_DEVICES", CASES[i].list, 1);
        int n = node_devices(out);
        assert_int_equal(n, CASES[i].n);
        if (n > 0)
            assert_string_equal(out[n - 1], CASES[i].last);
    }
    unsetenv("CUDA_VISIBLE_DEVICES");
}

static void cores_join_and_are_used(void **unused)
{
    node_cores mine, one = {0}, all = {0}, now;
    (void)unused;
    node_cores_get(&mine);
    for (int i = 0; i < NODE_CORES; i++)
        if (mine.bits[i / 64] >> i % 64 & 1) {
            one.bits[i / 64] = UINT64_C(1) << i % 64;
            break;
        }
    assert_int_equal(node_cores_use(&one, NULL), 0);
    node_cores_get(&now);
    assert_int_equal(node_cores_count(&now), 1);
    node_cores_join(&all, &one);
    node_cores_join(&all, &mine);
    assert_int_equal(node_cores_use(&all, NULL), 0);
    node_cores_get(&now);
    assert_memory_equal(&now, &mine, sizeof now);
}

static void loopback_is_the_last_address(void **unused)
{
    char address[NODE_ADDRESSES][NODE_ADDRESS];
    int n = node_addresses(address);
    (void)unused;
    assert_in_range(n, 1, NODE_ADDRESSES);
    assert_string_equal(address[n - 1], "127.0.0.1");
}

static void list_cores(const char *dir, int node, const char *cores)
{
    char path[FS_PATH + 32];
    err e = {0};

    snprintf(path, sizeof path, "%s/node%d", dir, node);
    assert_int_equal(fs_mkdirs(path, &e), 0);
    snprintf(path, sizeof path, "%s/node%d/cpulist", dir, node);
    assert_int_equal(fs_write(path, cores, strlen(cores), &e), 0);
}

static uint64_t near(uint64_t all, int slot, int slots, int threads)
{
    node_cores from = {{all}}, to;

    node_cores_near(&to, &from, slot, slots, threads);
    return to.bits[0];
}

static void a_slot_keeps_to_one_memory_node(void **unused)
{
    const char *dir = scratch;
    (void)unused;
    setenv("CFARM_SYS_NODES", dir, 1);
    assert_int_equal(near(0xff, 0, 2, 2), 0xff); /* nobody tells */
    list_cores(dir, 0, "0-1,4-5\n");
    list_cores(dir, 2, "2-3,6-7\n");
    assert_int_equal(near(0xff, 0, 2, 4), 0x33);
    assert_int_equal(near(0xff, 1, 2, 4), 0xcc);
    for (int i = 0; i < 4; i++)
        assert_int_equal(near(0xff, i, 4, 2), i < 2 ? 0x33 : 0xcc);
    assert_int_equal(near(0xff, 0, 1, 8), 0xff); /* does not fit into one */
    assert_int_equal(near(0x33, 1, 2, 2), 0x33); /* the other node's are not ours */
    assert_int_equal(near(0xf0, 1, 2, 1), 0xc0);
    unsetenv("CFARM_SYS_NODES");
}

static void waits_are_brief_unless_somebody_said_otherwise(void **unused)
{
    (void)unused;
    setenv("OMP_WAIT_POLICY", "active", 1);
    unsetenv("GOMP_SPINCOUNT");
    node_brief_waits(false);
    assert_string_equal(getenv("OMP_WAIT_POLICY"), "active");
    assert_null(getenv("GOMP_SPINCOUNT"));
    node_brief_waits(true);
    assert_string_equal(getenv("OMP_WAIT_POLICY"), "passive");
    assert_true(atoi(getenv("GOMP_SPINCOUNT")) > 0);
    unsetenv("OMP_WAIT_POLICY");
    setenv("GOMP_SPINCOUNT", "7", 1);
    node_brief_waits(false);
    assert_string_equal(getenv("GOMP_SPINCOUNT"), "7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_has_a_name_cores_and_memory),
        cmocka_unit_test(devices_are_called_what_the_variable_calls_them),
        cmocka_unit_test(cores_join_and_are_used),
        cmocka_unit_test(loopback_is_the_last_address),
        cmocka_unit_test_setup_teardown(a_slot_keeps_to_one_memory_node, scratch_make, scratch_remove),
        cmocka_unit_test(waits_are_brief_unless_somebody_said_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
