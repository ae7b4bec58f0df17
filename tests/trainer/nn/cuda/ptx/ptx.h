#ifndef PTX_H
#define PTX_H
/* What nvcc makes of our kernels, executed on a CPU: a reader of PTX's text and an interpreter of the part of it that they use,
 * by NVIDIA's description of PTX and not by the kernels. The CUDA plugin is linked against it and the stand-in's
 * runtime (../standin), so every test that runs there runs here over nvcc's code, host stubs included.
 *
 * A warp's lanes go together wherever they are at one instruction; those that are behind in the text go first. It is as
 * unforgiving as it can be, and ends the process with the kernel's name, the line and the lane where
 * - a place is outside of its memory, or no multiple of what is read there; shared memory is read that nobody has written;
 * - two threads touch the same bytes, one of them writing, and no barrier lies between (of the block, or of their warp), nor an
 *   mbarrier that one has given to and the other waited for;
 * - bytes are touched that a cp.async has under way, or a thread ends with one that it has not waited for;
 * - a warpgroup's product (wgmma) reads what no fence.proxy.async has shown it, its bytes are written before all who read them have
 *   waited, a register of one is touched before that, or was written behind the last wgmma.fence, its four warps ask for different
 *   ones, or its descriptor is of a form that is not known here; registers given and taken (setmaxnreg) are more than there are;
 * - a lane is missing at an instruction that needs the whole warp (.sync, .aligned), or gives another what it does not have;
 * - two blocks touch the same bytes of global memory within one launch, one of them writing;
 * - an instruction, or a form of one, is met that is not known here.
 *
 * STANDIN_PTX=show prints at the end, for each kernel, what its accesses cost: sectors of 32 bytes that global memory has to
 * bring and take, beside those that the bytes asked for would fill, and turns of shared memory's banks beside the fewest. */
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ptx {

enum { LANES = 32 };

/* Where an address points. Shared and local memory, and parameters, have a place of their own among generic addresses. */
enum space { GENERIC, GLOBAL, SHARED, LOCAL, PARAM, CONST };
constexpr uint64_t SHARED_AT = 1ull << 62, LOCAL_AT = 1ull << 61, PARAM_AT = 1ull << 60;

/* One result of a lane from what its operands hold. */
using lane_op = void (*)(uint64_t *to, const uint64_t *a, const uint64_t *b, const uint64_t *c, uint32_t mask);

enum what {
    EACH_LANE, LOAD, STORE, BRANCH, RETURN, BARRIER, WARP_BARRIER, SHUFFLE, MMA, MATRICES, COPY, COPY_GROUP, COPY_WAIT, JOIN, SPLIT,
    FIELD, PRODUCT, PRODUCT_FENCE, PRODUCT_GROUP, PRODUCT_WAIT, PROXY_FENCE, REGISTERS, SIGNAL_BEGIN, SIGNAL_GIVE, SIGNAL_TEST, UNKNOWN
};

struct instruction {
    what is = UNKNOWN;
    lane_op run = nullptr;
    int guard = -1; /* a register; -1: always */
    bool unless = false;
    std::vector<int> to, from; /* registers; a constant is one, too, and -1 is nobody */
    int64_t offset = 0;        /* of an address; a branch's target; which .. of a COPY_WAIT, PRODUCT_WAIT; of REGISTERS */
    space where = GENERIC;
    int bytes = 0, count = 1; /* of an element; elements (.v4), matrices, halves of an mma's depth, or columns of a product */
    bool sign = false, turned = false;
    char kind = 0; /* of a shuffle: i, b, u, d */
    int line = 0;
};

struct kernel {
    std::string name;
    std::shared_ptr<const std::vector<std::string>> text; /* lines of what it was read from */
    struct parameter {
        size_t at, bytes;
    };
    std::vector<parameter> parameters;
    size_t parameter_bytes = 0, shared_bytes = 0, local_bytes = 0;
    std::vector<instruction> code;
    int registers = 0;                               /* constants among them */
    std::vector<std::pair<int, uint64_t>> constants; /* what they hold from the start */
    int tid[3], ntid[3], ctaid[3], nctaid[3], laneid;
    unsigned most_threads = 1024;
    bool products = false; /* it has some */
};

/* Everything in such a text; ends the process where it cannot be read. */
void read_text(const std::string &text, std::map<std::string, std::unique_ptr<kernel>> *into);
/* NULL: there is none of that name (ptx_ops.cpp). */
lane_op op_of(const std::string &name);

struct grid {
    unsigned x, y, z;
};
/* Executes a whole grid. */
void execute(const kernel &k, grid blocks, grid threads, const std::vector<unsigned char> &parameters);
void show_costs();

} // namespace ptx
#endif
