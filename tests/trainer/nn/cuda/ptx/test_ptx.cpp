/* Laws of the interpreter: a kernel that is right gives its result; one that is wrong in a way a GPU would not tell of ends the
 * process with a sentence: a barrier, a fence or a wait that is missing, a place outside or askew, a lane that is away, two blocks at
 * one place. */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

#include "tests/trainer/nn/cuda/ptx/ptx.h"

namespace {

enum { NUMBERS = 256, THREADS = 64, WARPGROUP = 128 };
alignas(256) uint32_t memory[NUMBERS];

/* A kernel of one parameter, the place of memory: thread t of block b is %r1 and %r2, and %rd2 the place of its number. */
std::string around(const std::string &body)
{
    return std::string(".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry trial(\n.param .u64 trial_param_0\n)\n{\n"
                       ".reg .pred %p<4>;\n.reg .b32 %r<20>;\n.reg .b64 %rd<8>;\n.shared .align 16 .b8 room[1024];\n"
                       "ld.param.u64 %rd0, [trial_param_0];\ncvta.to.global.u64 %rd1, %rd0;\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, "
                       "%ctaid.x;\n"
                       "mul.wide.u32 %rd3, %r1, 4;\nadd.s64 %rd2, %rd1, %rd3;\nmov.u32 %r3, room;\nshl.b32 %r4, %r1, 2;\nadd.s32 "
                       "%r5, %r3, %r4;\n") +
           body + "ret;\n}\n";
}

void execute(const std::string &body, unsigned blocks, unsigned threads = THREADS)
{
    std::map<std::string, std::unique_ptr<ptx::kernel>> all;
    std::vector<unsigned char> parameters(sizeof(uint64_t));
    const uint64_t at = (uint64_t)memory;

    memcpy(parameters.data(), &at, sizeof at);
    ptx::read_text(around(body), &all);
    ptx::execute(*all.at("trial"), {blocks, 1, 1}, {threads, 1, 1}, parameters);
}

/* What a process says that executes it; empty if it ends well. */
std::string words_of(const std::string &body, unsigned blocks, unsigned threads = THREADS)
{
    char text[1024] = "";
    int ends[2], status;

    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        execute(body, blocks, threads);
        _exit(0);
    }
    close(ends[1]);
    const ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(n > 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return text;
}

struct fault {
    const char *body, *says;
    unsigned blocks;
};

const fault FAULTS[] = {
    {"st.shared.u32 [%r5], %r1;\nbar.sync 0;\nxor.b32 %r6, %r4, 128;\nadd.s32 %r6, %r6, %r3;\nld.shared.u32 %r7, "
     "[%r6];\nst.global.u32 [%rd2], %r7;\n",
     "", 1},
    {"st.shared.u32 [%r5], %r1;\nxor.b32 %r6, %r4, 128;\nadd.s32 %r6, %r6, %r3;\nld.shared.u32 %r7, [%r6];\n",
     "nobody has written", 1},
    {"st.shared.u32 [%r5], %r1;\nbar.sync 0;\nst.shared.u32 [%r5], %r1;\nxor.b32 %r6, %r4, 4;\nadd.s32 %r6, %r6, "
     "%r3;\nld.shared.u32 %r7, [%r6];\n",
     "no barrier between", 1},
    {"st.shared.u32 [%r5], %r1;\nbar.warp.sync 0xffffffff;\nxor.b32 %r6, %r4, 4;\nadd.s32 %r6, %r6, %r3;\nld.shared.u32 %r7, "
     "[%r6];\n",
     "", 1},
    {"st.shared.u32 [%r5], %r1;\nbar.sync 0;\nxor.b32 %r6, %r4, 4;\nadd.s32 %r6, %r6, %r3;\nld.shared.u32 %r7, "
     "[%r6];\nst.shared.u32 [%r5], %r7;\n",
     "another thread reads", 1},
    {"st.shared.u32 [%r3], %r1;\n", "another thread has written", 1},
    {"st.shared.u32 [%r5+1024], %r1;\n", "outside of shared memory", 1},
    {"st.shared.u64 [%r5], %rd2;\n", "no multiple", 1},
    {"st.global.u32 [%rd2+1000], %r1;\n", "outside of the device's memory", 1},
    {"st.global.u32 [%rd2], %r1;\n", "another thread has written, too", 2},
    {"setp.lt.u32 %p1, %r1, 32;\n@%p1 ld.global.u32 %r7, [%rd2];\n@!%p1 st.global.u32 [%rd2+-128], %r1;\n",
     "another thread of this launch reads", 1},
    {"shl.b32 %r6, %r1, 4;\nadd.s32 %r6, %r6, %r3;\nshl.b32 %r8, %r1, 4;\ncvt.u64.u32 %rd4, %r8;\nand.b64 %rd4, %rd4, "
     "255;\nadd.s64 %rd4, %rd1, %rd4;\n"
     "cp.async.cg.shared.global [%r6], [%rd4], 16, 16;\ncp.async.commit_group;\nld.shared.u32 %r7, [%r6];\n",
     "under way", 1},
    {"shl.b32 %r6, %r1, 4;\nadd.s32 %r6, %r6, %r3;\ncp.async.cg.shared.global [%r6], [%rd1], 16, 0;\ncp.async.commit_group;\n",
     "without having waited", 1},
    {"shl.b32 %r6, %r1, 4;\nadd.s32 %r6, %r6, %r3;\ncp.async.cg.shared.global [%r6], [%rd1], 16, "
     "0;\ncp.async.commit_group;\ncp.async.wait_group 0;\nld.shared.u32 %r7, [%r6];\n",
     "", 1},
    {"setp.lt.u32 %p1, %r1, 16;\n@%p1 bra $L;\nshfl.sync.bfly.b32 %r7|%p2, %r1, 1, 31, -1;\n$L:\n", "a lane is missing", 1},
    {"setp.lt.u32 %p1, %r1, 16;\n@%p1 bra $L;\nbar.sync 0;\n$L:\n", "whole warp", 1},
    {"some.new.f32 %r1, %r2;\n", "not known here", 1},
};

void what_is_wrong_is_told(void **)
{
    for (const fault &f : FAULTS) {
        const std::string said = words_of(f.body, f.blocks);
        if (*f.says ? said.find(f.says) == std::string::npos : !said.empty())
            fail_msg("%s gives \"%s\" and not \"%s\"", f.body, said.c_str(), f.says);
    }
}

void a_kernel_gives_its_result(void **)
{
    execute(FAULTS[0].body, 1);
    for (uint32_t t = 0; t < THREADS; t++)
        assert_int_equal(memory[t], t ^ 32);
}

void a_product_lies_as_the_manual_has_it(void **)
{
    /* Lane l has row g = l / 4 and columns 2t, 2t + 1 of A: A[g][g % 8] = 1 only, and A[g + 8][g % 8] = 2; B[k][g] = 8 k + g. So
     * the sum is 8 (row % 8) + column, twice that below. In bf16 these numbers are whole. */
    execute("and.b32 %r6, %r1, 31;\nshr.u32 %r7, %r6, 2;\nand.b32 %r8, %r6, 3;\nshl.b32 %r9, %r8, 1;\n"
            "setp.eq.u32 %p1, %r9, %r7;\nselp.b32 %r10, 16256, 0, %p1;\nadd.s32 %r11, %r9, 1;\nsetp.eq.u32 %p2, %r11, "
            "%r7;\nselp.b32 %r12, 1065353216, 0, %p2;\n"
            "or.b32 %r10, %r10, %r12;\nselp.b32 %r12, 16384, 0, %p1;\nselp.b32 %r13, 1073741824, 0, %p2;\nor.b32 %r12, %r12, "
            "%r13;\n"
            "shl.b32 %r14, %r9, 3;\nadd.s32 %r14, %r14, %r7;\nadd.s32 %r15, %r14, 8;\ncvt.rn.f32.u32 %r14, %r14;\ncvt.rn.f32.u32 "
            "%r15, %r15;\n"
            "cvt.rn.bf16x2.f32 %r14, %r15, %r14;\nmov.u32 %r16, 0;\n"
            "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%r16,%r17,%r18,%r19}, {%r10,%r12}, {%r14}, "
            "{%r16,%r16,%r16,%r16};\n"
            "setp.gt.u32 %p3, %r1, 31;\n@%p3 bra $L;\nshl.b32 %r5, %r1, 4;\ncvt.u64.u32 %rd4, %r5;\nadd.s64 %rd4, %rd1, %rd4;\n"
            "st.global.v4.u32 [%rd4], {%r16,%r17,%r18,%r19};\n$L:\n",
            1);
    for (int l = 0; l < 32; l++)
        for (int e = 0; e < 4; e++) {
            float got;
            memcpy(&got, &memory[4 * l + e], sizeof got);
            assert_true(got == (float)((8 * (l / 4) + l % 4 * 2 + e % 2) * (e < 2 ? 1 : 2)));
        }
}

/* A product of a warpgroup, 64 x 8 and 16 deep, of ones: in pieces, so that each can be left out. */
#define WRITE "st.shared.u32 [%r5], 1065369472;\n"
#define SHOW "fence.proxy.async.shared::cta;\n"
#define MEET "bar.sync 0;\n"
#define RIGHT "cvt.u64.u32 %rd4, %r3;\nshr.u64 %rd4, %rd4, 4;\nor.b64 %rd4, %rd4, 524288;\n"
#define LEFT "mov.u32 %r6, 1065369472;\nmov.u32 %r7, %r6;\nmov.u32 %r8, %r6;\nmov.u32 %r9, %r6;\nsetp.eq.u32 %p1, %r1, 999;\n"
#define FENCE "wgmma.fence.sync.aligned;\n"
#define MULTIPLY                                                                                                               \
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r10,%r11,%r12,%r13}, {%r6,%r7,%r8,%r9}, %rd4, %p1, 1, 1, 0;\n"
#define GROUP "wgmma.commit_group.sync.aligned;\n"
#define WAIT "wgmma.wait_group.sync.aligned 0;\n"
#define KEEP "st.global.u32 [%rd2], %r10;\n"
/* An mbarrier behind the numbers, which 32 threads give to. */
#define BEGIN "setp.ne.u32 %p2, %r1, 0;\n@%p2 bra $B;\nmbarrier.init.shared.b64 [%r3+1016], 32;\n$B:\n" MEET
#define FIRST_GIVE "setp.gt.u32 %p2, %r1, 31;\n@%p2 bra $G;\n" WRITE SHOW "mbarrier.arrive.shared.b64 %rd5, [%r3+1016];\n$G:\n"
#define ALL_TAKE "$T:\nmbarrier.try_wait.parity.shared.b64 %p3, [%r3+1016], 0;\n@!%p3 bra $T;\n"
#define FIRST_WORD "and.b32 %r6, %r4, 127;\nadd.s32 %r6, %r6, %r3;\nld.shared.u32 %r7, [%r6];\n"

struct group_fault {
    const char *body, *says;
};

const group_fault GROUP_FAULTS[] = {
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP WAIT KEEP, ""},
    {WRITE MEET SHOW RIGHT LEFT FENCE MULTIPLY GROUP WAIT KEEP, "without a fence.proxy.async"},
    {WRITE SHOW RIGHT LEFT FENCE MULTIPLY GROUP WAIT KEEP, "a product reads shared memory that"},
    {WRITE SHOW MEET RIGHT FENCE LEFT MULTIPLY GROUP WAIT KEEP, "a left factor was written behind the last wgmma.fence"},
    {WRITE SHOW MEET RIGHT LEFT FENCE "mov.u32 %r10, 0;\n" MULTIPLY GROUP WAIT KEEP, "a sum was written behind the last wgmma.fence"},
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP KEEP WAIT, "has not been waited for"},
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY WAIT KEEP, "has not been waited for"},
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP "mov.u32 %r6, 0;\n" WAIT KEEP, "has not been waited for"},
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP, "without having waited for its products"},
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP WRITE WAIT KEEP, "a product reads"},
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP WAIT WRITE, "a product reads"},
    {WRITE SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP WAIT MEET WRITE, ""},
    {SHOW MEET RIGHT LEFT FENCE MULTIPLY GROUP WAIT KEEP, "nobody has written"},
    {WRITE SHOW MEET RIGHT "or.b64 %rd4, %rd4, 0x4000000000000000;\n" LEFT FENCE MULTIPLY GROUP WAIT, "a form that is not known"},
    {WRITE SHOW MEET RIGHT "setp.gt.u32 %p2, %r1, 31;\n@%p2 add.s64 %rd4, %rd4, 1;\n" LEFT FENCE MULTIPLY GROUP WAIT,
     "have asked for different products"},
    {"setmaxnreg.inc.sync.aligned.u32 240;\n", ""},
    {BEGIN FIRST_GIVE ALL_TAKE FIRST_WORD, ""},
    {BEGIN FIRST_GIVE FIRST_WORD, "no barrier between"},
    {BEGIN ALL_TAKE, "others do not give to"},
    {BEGIN FIRST_GIVE ALL_TAKE "setp.lt.u32 %p2, %r1, 96;\n@%p2 bra $O;\n" FIRST_WORD "$O:\n@%p2 ld.shared.u32 %r7, [%r5];\n", "nobody has written"},
    {BEGIN FIRST_GIVE ALL_TAKE "setp.lt.u32 %p2, %r1, 96;\n@!%p2 st.shared.u32 [%r3], %r1;\n", "another thread has written"},
};

void what_is_wrong_with_a_warpgroups_products_is_told(void **)
{
    for (const group_fault &f : GROUP_FAULTS) {
        const std::string said = words_of(f.body, 1, WARPGROUP);
        if (*f.says ? said.find(f.says) == std::string::npos : !said.empty())
            fail_msg("%s gives \"%s\" and not \"%s\"", f.body, said.c_str(), f.says);
    }
}

/* The left factor of each warp is the unit matrix, so the sum is the right factor, whose number i in memory is i: of piece k / 8 the
 * row n, column k % 8, or if turned row k % 8, column n. */
void a_warpgroups_product_lies_as_the_manual_has_it(void **)
{
    for (int turned = 0; turned < 2; turned++) {
        execute("cvt.rn.f32.u32 %r6, %r1;\nshr.u32 %r6, %r6, 16;\nshl.b32 %r7, %r1, 1;\nadd.s32 %r7, %r7, %r3;\ncvt.u16.u32 %r6, %r6;\n"
                "st.shared.u16 [%r7], %r6;\n" SHOW MEET RIGHT
                "and.b32 %r6, %r1, 31;\nshr.u32 %r7, %r6, 2;\nand.b32 %r8, %r6, 3;\nshl.b32 %r9, %r8, 1;\n"
                "setp.eq.u32 %p1, %r9, %r7;\nselp.b32 %r14, 16256, 0, %p1;\nadd.s32 %r11, %r9, 1;\nsetp.eq.u32 %p2, %r11, %r7;\n"
                "selp.b32 %r12, 1065353216, 0, %p2;\nor.b32 %r6, %r14, %r12;\nmov.u32 %r7, 0;\nmov.u32 %r8, 0;\nmov.u32 %r9, %r6;\n"
                "setp.eq.u32 %p1, %r1, 999;\n" FENCE
                "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r10,%r11,%r12,%r13}, {%r6,%r7,%r8,%r9}, %rd4, %p1, 1, 1, " +
                    std::to_string(turned) + ";\n" GROUP WAIT
                "shr.u32 %r14, %r1, 5;\nsetp.ne.u32 %p3, %r14, 1;\n@%p3 bra $L;\nand.b32 %r14, %r1, 31;\nshl.b32 %r14, %r14, 4;\n"
                "cvt.u64.u32 %rd5, %r14;\nadd.s64 %rd5, %rd1, %rd5;\nst.global.v4.u32 [%rd5], {%r10,%r11,%r12,%r13};\n$L:\n",
                1, WARPGROUP);
        for (int l = 0; l < 32; l++)
            for (int e = 0; e < 4; e++) {
                const int k = l / 4 + e / 2 * 8, n = l % 4 * 2 + e % 2, row = turned ? k % 8 : n, column = turned ? n : k % 8;
                float got;
                memcpy(&got, &memory[4 * l + e], sizeof got);
                assert_true(got == (float)(k / 8 * 64 + row * 8 + column));
            }
    }
}

} // namespace

const char *standin_piece(const void *at, size_t *bytes)
{
    *bytes = sizeof memory;
    return (const char *)at >= (const char *)memory && (const char *)at < (const char *)memory + sizeof memory
               ? (const char *)memory
               : nullptr;
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(a_kernel_gives_its_result),
        cmocka_unit_test(a_product_lies_as_the_manual_has_it),
        cmocka_unit_test(what_is_wrong_with_a_warpgroups_products_is_told),
        cmocka_unit_test(a_warpgroups_product_lies_as_the_manual_has_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
