/* Memory, and how much of it there is: read from /proc and control groups of a pretended machine. */
#include "tests/cluster/scratch.h"

#include "cluster/base/mem.h"
#include "cluster/base/str.h"

static void small_requests_are_zeroed_and_grow(void **state)
{
    (void)state;
    int *p = NEW_N(int, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    p[99] = 7;
    p = mem_grow(p, 1000, sizeof *p);
    assert_int_equal(p[99], 7);
    free(p);
    assert_null(mem_text(NULL));
    char *s = mem_text("abc");
    assert_string_equal(s, "abc");
    free(s);
}

static void large_requests_are_aligned_to_a_cache_line(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 1 << 20, 33 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *p;
        assert_int_equal(mem_big(&p, sizes[i], "a tensor", NULL), 0);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 1, sizes[i]);
        free(p);
    }
}

static void what_cannot_be_had_is_refused_with_both_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {(size_t)1 << 50, SIZE_MAX, SIZE_MAX - 32};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        err e;
        void *p = &e;
        assert_int_equal(mem_big(&p, sizes[i], "the UNet", &e), ERR_MEMORY);
        assert_null(p);
        assert_true(str_starts(e.text, "the UNet needs ") && str_ends(e.text, " MiB are free"));
    }
}

static void put(const char *name, const char *text)
{
    char dir[FS_PATH];
    const char *path = in_scratch(name);
    snprintf(dir, sizeof dir, "%.*s", (int)(fs_base(path) - path), path);
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
    assert_int_equal(fs_write(path, text, strlen(text), NULL), 0);
}

/* Each row: files of a machine, and the MiB it could give. */
static const struct {
    const char *what;
    size_t mib;
    const char *files[12];
} MACHINES[] = {
    {"no control groups", 1000, {"proc/meminfo", "MemTotal: 2048000 kB\nMemFree: 5 kB\nMemAvailable:    1024000 kB\n"}},
    {"version 2, a limit", 60,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n", "proc/self/cgroup", "0::/job/step\n",
      "sys/fs/cgroup/job/step/memory.max", "104857600\n", "sys/fs/cgroup/job/step/memory.current", "41943040\n"}},
    {"version 2, idle cache counts as free", 70,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n", "proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/memory.max",
      "104857600\n", "sys/fs/cgroup/a/memory.current", "41943040\n", "sys/fs/cgroup/a/memory.stat",
      "anon 5\ninactive_file 10485760\nactive_file 3\n"}},
    {"version 2, the limit is a parent's", 20,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n", "proc/self/cgroup", "0::/job/step\n",
      "sys/fs/cgroup/job/step/memory.max", "max\n", "sys/fs/cgroup/job/step/memory.current", "1\n",
      "sys/fs/cgroup/job/memory.max", "62914560\n", "sys/fs/cgroup/job/memory.current", "41943040\n"}},
    {"version 2, no limit", 1000,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n", "proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/memory.max",
      "max\n", "sys/fs/cgroup/a/memory.current", "41943040\n"}},
    {"version 2, full", 0,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n", "proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/memory.max",
      "1048576\n", "sys/fs/cgroup/a/memory.current", "1048577\n"}},
    {"version 1 among others", 30,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n",
      "proc/self/cgroup", "7:cpu,cpuacct:/x\n4:memory:/slurm/uid_0\n0::/\n",
      "sys/fs/cgroup/memory/slurm/uid_0/memory.limit_in_bytes", "52428800\n",
      "sys/fs/cgroup/memory/slurm/uid_0/memory.usage_in_bytes", "31457280\n",
      "sys/fs/cgroup/memory/slurm/uid_0/memory.stat", "inactive_file 1\ntotal_inactive_file 10485760\n"}},
    {"a container: its group is the mount's root", 10,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n", "proc/self/cgroup", "4:memory:/docker/0123\n",
      "sys/fs/cgroup/memory/memory.limit_in_bytes", "20971520\n", "sys/fs/cgroup/memory/memory.usage_in_bytes",
      "10485760\n"}},
    {"version 1 without a limit", 1000,
     {"proc/meminfo", "MemAvailable: 1024000 kB\n", "proc/self/cgroup", "4:memory:/\n",
      "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n",
      "sys/fs/cgroup/memory/memory.usage_in_bytes", "10485760\n"}},
};

static void free_memory_is_the_least_that_anyone_allows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof MACHINES / sizeof *MACHINES; i++) {
        char root[32];
        snprintf(root, sizeof root, "machine-%zu", i);
        for (size_t f = 0; f + 1 < 12 && MACHINES[i].files[f]; f += 2) {
            char name[256];
            snprintf(name, sizeof name, "%s/%s", root, MACHINES[i].files[f]);
            put(name, MACHINES[i].files[f + 1]);
        }
        size_t got = mem_free_under(in_scratch(root));
        if (got != MACHINES[i].mib << 20)
            fail_msg("%s: %zu bytes, not %zu MiB", MACHINES[i].what, got, MACHINES[i].mib);
    }
}

static void this_machine_has_some(void **state)
{
    (void)state;
    assert_in_range(mem_free_bytes(), 1 << 20, (size_t)1 << 46);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_requests_are_zeroed_and_grow),
        cmocka_unit_test(large_requests_are_aligned_to_a_cache_line),
        cmocka_unit_test(what_cannot_be_had_is_refused_with_both_sizes),
        cmocka_unit_test(free_memory_is_the_least_that_anyone_allows),
        cmocka_unit_test(this_machine_has_some),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
