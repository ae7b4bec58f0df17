/* A grid of warps: blocks one after another, a block's warps each until its next barrier. */
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <unordered_map>

#include "tests/trainer/nn/cuda/ptx/ptx.h"
#include "tests/trainer/nn/cuda/standin/standin.h"

extern "C" {
#include "cluster/base/dtype.h"
}

namespace ptx {

namespace {

enum { SECTOR = 32, BANKS = 32, PAGE = 4096, GRAIN = 2, PAGES_MOST = 4096, NOBODY = 0xffff, SEVERAL = 0xfffe };
enum { WARPS_MOST = 32, UNIT = 16, REGISTERS_ALL = 65536, VAIN_MOST = 1000 };

/* How far each warp of a block is known to be, by its own clock: which goes on when it lets others know. */
using clocks = std::array<uint32_t, WARPS_MOST>;
constexpr uint32_t UNDER_WAY = 0xffffffffu;

void learn(clocks *mine, const clocks &other)
{
    for (size_t w = 0; w < WARPS_MOST; w++)
        (*mine)[w] = std::max((*mine)[w], other[w]);
}

/* Who touched some bytes last: a thread or SEVERAL of a block, before which barrier of the block and of the warp. */
struct touch {
    uint32_t when = 0; /* barriers of all blocks so far: never the same in two blocks */
    uint32_t clock = 0; /* of its warp */
    uint16_t thread = NOBODY, warp = NOBODY, warp_when = 0;
};

struct bytes_of_block {
    touch wrote, read;
    bool under_way = false;
};

/* Two bytes of global memory within a launch. */
struct grain {
    uint32_t launch = 0, block_wrote = 0, block_read = 0;
    touch wrote, read;
};
struct page {
    grain at[PAGE / GRAIN];
};
enum : uint32_t { NO_BLOCK = 0xffffffffu, MANY_BLOCKS = 0xfffffffeu };

/* When each warp read 16 bytes, or a product of its does, since a barrier of the block; kept for kernels that have products. */
struct reads {
    uint32_t when = 0;
    clocks at = {};
};

/* An mbarrier: gifts that are to come, how often it has passed; what those who gave knew, and which of their writes they had fenced. */
struct signal {
    uint32_t count = 0, left = 0, passed = 0;
    clocks seen_now = {}, seen = {}, fenced_now = {}, fenced = {};
};

struct product {
    const instruction *is;
    size_t group;
};

struct copy {
    uint64_t to, from;
    uint32_t bytes;
    size_t group;
};

struct costs {
    uint64_t launches = 0, instructions = 0, sectors = 0, sectors_least = 0, banks = 0, banks_least = 0;
    std::map<int, std::pair<uint64_t, uint64_t>> lines; /* turns or sectors, and the fewest, by line */
    std::shared_ptr<const std::vector<std::string>> text;
};

std::map<std::string, costs> &all_costs = *new std::map<std::string, costs>; /* there until the very end */
uint32_t launches, barriers = 1;                                             /* of the process */

struct warp {
    unsigned first, live = 0; /* its first thread; lanes that have not ended */
    uint32_t go = 0;          /* lanes at `pc`; the others have theirs in `at` */
    size_t pc = 0, at[LANES] = {};
    bool waits = false;
    uint16_t when = 1; /* barriers of the warp so far */
    std::unique_ptr<uint64_t[]> registers;
    std::vector<unsigned char> local;
    std::vector<copy> copies[LANES];
    size_t groups[LANES] = {};
    bool yields = false; /* what it waits for has not come */
    uint32_t clock = 1;
    clocks seen = {}, fenced = {}; /* of others, and of all: up to when their writes are shown to products */
    std::vector<product> products;
    size_t product_groups = 0;
    std::vector<std::pair<int, uint64_t>> asked; /* lines and descriptors of all its products */
    uint64_t steps = 0, fence = 0;
    std::vector<uint64_t> written;          /* by register: in which step */
    std::vector<uint8_t> summing, factor;   /* by register: products under way that have it */
    int64_t most_registers = 0;
};

class block
{
    const kernel &k;
    const std::vector<unsigned char> &parameters;
    const unsigned threads, number;
    const grid blocks, shape, mine;
    std::vector<unsigned char> shared;
    std::vector<bytes_of_block> shadow;
    std::vector<reads> product_reads; /* by 16 bytes, where a kernel has products */
    std::map<uint64_t, signal> signals;
    uint64_t events = 0; /* gifts, barriers, ends: what others may wait for */
    std::vector<warp> warps;
    const uint32_t begun;
    costs *cost;
    const instruction *now = nullptr;
    warp *who = nullptr;

    static std::unordered_map<uint64_t, std::unique_ptr<page>> pages;

    [[noreturn]] void stop(int lane, const char *why) const;
    uint64_t *lanes(int r) const { return who->registers.get() + (size_t)r * LANES; }
    unsigned thread(int lane) const { return who->first + (unsigned)lane; }
    size_t me() const { return who->first / LANES; }
    touch of(int lane) const { return touch{barriers, who->clock, (uint16_t)thread(lane), (uint16_t)me(), who->when}; }

    bool behind_barrier(const touch &t, int lane) const;
    void touch_shared(uint64_t at, size_t bytes, int lane, bool write);
    static page *page_of(uint64_t n);
    void touch_global(uint64_t at, size_t bytes, int lane, bool write);
    void fly(uint64_t at, size_t bytes, int lane);
    unsigned char *place(space where, uint64_t at, size_t bytes, int lane, bool write);
    void count_sectors(const uint64_t *address, uint32_t mask, size_t bytes);
    void count_banks(const uint64_t *address, uint32_t mask, size_t bytes);
    void count(space where, const uint64_t *address, uint32_t mask, size_t bytes);

    void whole_warp(uint32_t mask);
    void access(uint32_t mask);
    void shuffle(uint32_t mask);
    void multiply(uint32_t mask);
    void matrices(uint32_t mask);
    void begin_copies(uint32_t mask);
    void wait_for_copies(uint32_t mask);
    void touch_registers(const instruction &i);
    void note_reading(uint64_t at);
    void touch_product(uint64_t at, bool done);
    template <typename EACH> void right_pieces(const instruction &i, EACH each);
    void begin_product(uint32_t mask);
    void make_product(const instruction &i);
    void wait_for_products(uint32_t mask);
    void fence_proxy(uint32_t mask);
    void begin_signal(uint32_t mask);
    void give_signal(uint32_t mask);
    void test_signal(uint32_t mask);
    void all_barrier();
    void check_groups();
    void join(uint32_t mask);
    void split(uint32_t mask);
    void put_field(uint32_t mask);
    void branch(uint32_t mask);
    void end(uint32_t mask);
    void choose();
    void step();

  public:
    block(const kernel &kernel_, const std::vector<unsigned char> &parameters_, unsigned number_, grid blocks_, grid shape_,
          costs *c);
    void run();
    /* What was touched in earlier launches is of no interest; it may take twenty times the memory. */
    static void forget()
    {
        if (pages.size() > PAGES_MOST)
            pages.clear();
    }
};

std::unordered_map<uint64_t, std::unique_ptr<page>> block::pages;

void block::stop(int lane, const char *why) const
{
    fprintf(stderr, "ptx: %s: block %u,%u,%u thread %u: %s\n%s\n", k.name.c_str(), mine.x, mine.y, mine.z, who ? thread(lane) : 0,
            why, now ? (*k.text)[(size_t)now->line - 1].c_str() : "");
    abort();
}

/* ---- who touched what ---- */

/* Whether what was done then is done for this lane, too: it did so itself, or a barrier lies between. */
bool block::behind_barrier(const touch &t, int lane) const
{
    return t.thread == NOBODY || t.thread == thread(lane) || t.when != barriers ||
           (t.warp == me() && t.warp_when != who->when) || (t.warp < WARPS_MOST && t.warp != me() && who->seen[t.warp] >= t.clock);
}

void note_read(touch *read, const touch &me)
{
    if (read->thread != NOBODY && read->when == me.when && read->thread != me.thread) {
        read->thread = SEVERAL;
        read->warp = read->warp == me.warp ? me.warp : (uint16_t)SEVERAL;
        read->warp_when = me.warp_when;
    } else
        *read = me;
}

void block::note_reading(uint64_t at)
{
    reads &r = product_reads[at / UNIT];

    if (r.when != barriers)
        r = reads{barriers, {}};
    r.at[me()] = std::max(r.at[me()], who->clock);
}

void block::touch_shared(uint64_t at, size_t bytes, int lane, bool write)
{
    for (size_t i = at; i < at + bytes; i++) {
        bytes_of_block &b = shadow[i];
        if (b.under_way)
            stop(lane, "shared memory that a copy has under way");
        if (!write && b.wrote.thread == NOBODY)
            stop(lane, "shared memory that nobody has written");
        if (!behind_barrier(b.wrote, lane))
            stop(lane, write ? "shared memory that another thread has written, with no barrier between"
                             : "shared memory that another thread writes, with no barrier between");
        if (write && !(k.products && b.read.thread == SEVERAL) && !behind_barrier(b.read, lane))
            stop(lane, "shared memory that another thread reads, with no barrier between");
        if (write && k.products && product_reads[i / UNIT].when == barriers)
            for (size_t w = 0; w < warps.size(); w++) {
                const uint32_t then = product_reads[i / UNIT].at[w];
                if (then == UNDER_WAY || (w != me() && then > who->seen[w]))
                    stop(lane, then == UNDER_WAY ? "shared memory that a product reads"
                                                 : "shared memory that a product or another thread reads, with no barrier between");
            }
        if (!write && k.products)
            note_reading(i);
        if (write)
            b.wrote = of(lane);
        else
            note_read(&b.read, of(lane));
    }
}

/* A copy's bytes: nobody may touch them until its thread has waited. */
void block::fly(uint64_t at, size_t bytes, int lane)
{
    touch_shared(at, bytes, lane, true);
    for (size_t i = at; i < at + bytes; i++)
        shadow[i].under_way = true;
}

page *block::page_of(uint64_t n)
{
    static uint64_t last = ~0ull;
    static page *of_last;

    if (n != last || pages.empty()) {
        std::unique_ptr<page> &p = pages[n];
        if (!p)
            p.reset(new page);
        last = n;
        of_last = p.get();
    }
    return of_last;
}

void block::touch_global(uint64_t at, size_t bytes, int lane, bool write)
{
    for (uint64_t i = at / GRAIN; i <= (at + bytes - 1) / GRAIN; i++) {
        grain &g = page_of(i * GRAIN / PAGE)->at[i % (PAGE / GRAIN)];
        if (g.launch != launches)
            g = grain{launches, NO_BLOCK, NO_BLOCK, touch{}, touch{}};
        if (g.block_wrote != NO_BLOCK && (g.block_wrote != number || !behind_barrier(g.wrote, lane)))
            stop(lane, write ? "global memory that another thread has written, too"
                             : "global memory that another thread of this launch writes");
        if (write && g.block_read != NO_BLOCK && (g.block_read != number || !behind_barrier(g.read, lane)))
            stop(lane, "global memory that another thread of this launch reads");
        if (write) {
            g.block_wrote = number;
            g.wrote = of(lane);
        } else {
            g.block_read = g.block_read == NO_BLOCK || g.block_read == number ? number : (uint32_t)MANY_BLOCKS;
            note_read(&g.read, of(lane));
        }
    }
}

/* ---- memory ---- */

/* Where these bytes lie on this machine. */
unsigned char *block::place(space where, uint64_t at, size_t bytes, int lane, bool write)
{
    size_t room;

    if (at % bytes)
        stop(lane, "a place that is no multiple of what is read or written there");
    if (where == PARAM || (where == GENERIC && at >> 60 == 1))
        return at - PARAM_AT + bytes <= parameters.size() && !write ? (unsigned char *)parameters.data() + (at - PARAM_AT)
                                                                    : (stop(lane, "outside of the parameters"), nullptr);
    if (where == GENERIC && at >= SHARED_AT)
        where = SHARED, at -= SHARED_AT;
    else if (where == GENERIC && at >= LOCAL_AT)
        where = LOCAL, at -= LOCAL_AT;
    if (where == SHARED) {
        if (at + bytes > shared.size())
            stop(lane, "outside of shared memory");
        touch_shared(at, bytes, lane, write);
        return shared.data() + at;
    }
    if (where == LOCAL) {
        if (at + bytes > k.local_bytes)
            stop(lane, "outside of local memory");
        return who->local.data() + (size_t)lane * k.local_bytes + at;
    }
    if (where != CONST) {
        const char *piece = standin_piece((const void *)at, &room);
        if (piece && (uint64_t)piece + room - at >= bytes)
            touch_global(at, bytes, lane, write);
        else if (piece || write)
            stop(lane, "outside of the device's memory");
    }
    return (unsigned char *)at;
}

/* ---- what accesses cost ---- */

void block::count_sectors(const uint64_t *address, uint32_t mask, size_t bytes)
{
    uint64_t seen[4 * LANES], all = 0;
    size_t n = 0;

    for (int l = 0; l < LANES; l++)
        for (uint64_t s = address[l] / SECTOR; (mask >> l & 1) && s <= (address[l] + bytes - 1) / SECTOR && n < 4 * LANES; s++)
            seen[n++] = s;
    std::sort(seen, seen + n);
    n = (size_t)(std::unique(seen, seen + n) - seen);
    uint64_t places[LANES];
    size_t m = 0;
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1)
            places[m++] = address[l];
    std::sort(places, places + m);
    all = (uint64_t)(std::unique(places, places + m) - places) * bytes;
    cost->sectors += n;
    cost->sectors_least += (all + SECTOR - 1) / SECTOR;
    cost->lines[now->line].first += n;
    cost->lines[now->line].second += (all + SECTOR - 1) / SECTOR;
}

/* Words of 16 bytes are taken by quarters of a warp, of 8 by halves: in each, one word of a bank a turn. */
void block::count_banks(const uint64_t *address, uint32_t mask, size_t bytes)
{
    const int together = bytes > 4 ? (int)(LANES * 4 / bytes) : LANES;
    uint64_t turns = 0, least = 0;

    for (int from = 0; from < LANES; from += together) {
        uint64_t words[LANES];
        size_t n = 0, most = 0, of_bank[BANKS] = {};
        for (int l = from; l < from + together; l++)
            for (uint64_t w = address[l] / 4; (mask >> l & 1) && w <= (address[l] + bytes - 1) / 4; w++)
                words[n++] = w;
        std::sort(words, words + n);
        n = (size_t)(std::unique(words, words + n) - words);
        for (size_t i = 0; i < n; i++)
            most = std::max(most, ++of_bank[words[i] % BANKS]);
        turns += most;
        least += (n + BANKS - 1) / BANKS;
    }
    cost->banks += turns;
    cost->banks_least += least;
    cost->lines[now->line].first += turns;
    cost->lines[now->line].second += least;
}

void block::count(space where, const uint64_t *address, uint32_t mask, size_t bytes)
{
    if (where == GLOBAL)
        count_sectors(address, mask, bytes);
    else if (where == SHARED)
        count_banks(address, mask, bytes);
}

/* ---- instructions ---- */

void block::whole_warp(uint32_t mask)
{
    if (mask != who->live)
        stop(__builtin_ctz(who->live & ~mask), "a lane is missing where the whole warp is needed");
}

void block::access(uint32_t mask)
{
    const instruction &i = *now;
    const size_t bytes = (size_t)(i.bytes * i.count);
    uint64_t address[LANES];

    for (int l = 0; l < LANES; l++)
        address[l] = lanes(i.from[0])[l] + (uint64_t)i.offset;
    count(i.where, address, mask, bytes);
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1))
            continue;
        unsigned char *at = place(i.where, address[l], bytes, l, i.is == STORE);
        for (int n = 0; n < i.count; n++) {
            uint64_t x = 0;
            if (i.is == STORE) {
                memcpy(at + n * i.bytes, &lanes(i.to[(size_t)n])[l], (size_t)i.bytes);
                continue;
            }
            memcpy(&x, at + n * i.bytes, (size_t)i.bytes);
            if (i.sign && i.bytes < 8 && x >> (8 * i.bytes - 1))
                x |= ~0ull << 8 * i.bytes; /* to the register's width, which the next one cuts */
            if (i.to[(size_t)n] >= 0)
                lanes(i.to[(size_t)n])[l] = x;
        }
    }
}

/* shfl.sync d|p, a, b, c, members. */
void block::shuffle(uint32_t mask)
{
    const instruction &i = *now;
    uint64_t a[LANES];

    memcpy(a, lanes(i.from[0]), sizeof a);
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1))
            continue;
        const int b = (int)(lanes(i.from[1])[l] & 31), c = (int)lanes(i.from[2])[l], clamp = c & 31, keep = c >> 8 & 31;
        const int most = (l & keep) | (clamp & ~keep), least = l & keep;
        const uint32_t members = (uint32_t)lanes(i.from[3])[l];
        int j = i.kind == 'i' ? (least | (b & ~keep)) : i.kind == 'b' ? l ^ b : i.kind == 'u' ? l - b : l + b;
        const bool within = i.kind == 'u' ? j >= most : j <= most;
        if (!within)
            j = l;
        if (members & who->live & ~mask)
            stop(__builtin_ctz(members & who->live & ~mask), "a lane is missing at an exchange that names it");
        if (!(members >> l & 1) || !(members >> j & 1) || !(mask >> j & 1))
            stop(l, "an exchange with a lane that does not take part");
        lanes(i.to[0])[l] = (uint32_t)a[j];
        if (i.to.size() > 1 && i.to[1] >= 0)
            lanes(i.to[1])[l] = within;
    }
}

float half_of(uint64_t word, int which) { return f32_of_bf16((uint16_t)(word >> 16 * which)); }

/* Fragments of mma: with g = lane / 4 and t = lane % 4, of m16n8k16 the left factor's element i of a lane is row g (i < 2, or 4
 * <= i < 6) or g + 8, column 2t + i % 2, and 8 more from i = 4 on; the right one's is row 2t + i % 2, and 8 more from i = 2 on,
 * column g; the sum's is row g or (i >= 2) g + 8, column 2t + i % 2. m16n8k8 has the first halves. */
void block::multiply(uint32_t mask)
{
    const instruction &i = *now;
    const int depth = 8 * i.count, words = 2 * i.count;
    float left[16][16] = {}, right[16][8] = {}, sum[16][8];

    whole_warp(mask);
    for (int l = 0; l < LANES; l++) {
        const int g = l / 4, t = l % 4;
        for (int e = 0; e < 2 * words; e++)
            left[e % 4 < 2 ? g : g + 8][2 * t + e % 2 + e / 4 * 8] = half_of(lanes(i.from[(size_t)(e / 2)])[l], e % 2);
        for (int e = 0; e < words; e++)
            right[2 * t + e % 2 + e / 2 * 8][g] = half_of(lanes(i.from[(size_t)(words + e / 2)])[l], e % 2);
    }
    for (int l = 0; l < LANES; l++)
        for (int e = 0; e < 4; e++) {
            float c;
            memcpy(&c, &lanes(i.from[(size_t)(words + i.count + e)])[l], sizeof c);
            sum[l / 4 + e / 2 * 8][l % 4 * 2 + e % 2] = c;
        }
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 8; c++) {
            double all = 0.0;
            for (int n = 0; n < depth; n++)
                all += (double)left[r][n] * (double)right[n][c];
            sum[r][c] = (float)(all + (double)sum[r][c]);
        }
    for (int l = 0; l < LANES; l++)
        for (int e = 0; e < 4; e++) {
            uint64_t out = 0;
            memcpy(&out, &sum[l / 4 + e / 2 * 8][l % 4 * 2 + e % 2], sizeof(float));
            lanes(i.to[(size_t)e])[l] = out;
        }
}

/* ldmatrix: lane l brings the place of row l % 8 of matrix l / 8; it gets elements 2 (l % 4) and the next of row l /
 * 4, or of that column if turned. */
void block::matrices(uint32_t mask)
{
    const instruction &i = *now;
    uint64_t address[LANES] = {};
    uint16_t rows[LANES][8];

    whole_warp(mask);
    if (mask != 0xffffffffu)
        stop(0, "a lane has ended where the whole warp is needed");
    for (int l = 0; l < 8 * i.count; l++)
        address[l] = lanes(i.from[0])[l] + (uint64_t)i.offset;
    count(SHARED, address, i.count == 4 ? 0xffffffffu : (1u << 8 * i.count) - 1, sizeof rows[0]);
    for (int l = 0; l < 8 * i.count; l++)
        memcpy(rows[l], place(SHARED, address[l], sizeof rows[l], l, false), sizeof rows[l]);
    for (int n = 0; n < i.count; n++)
        for (int l = 0; l < LANES; l++) {
            const int row = l / 4, pair = 2 * (l % 4);
            const uint16_t *at = rows[8 * n + row];
            const uint32_t first = i.turned ? rows[8 * n + pair][row] : at[pair],
                           second = i.turned ? rows[8 * n + pair + 1][row] : at[pair + 1];
            lanes(i.to[(size_t)n])[l] = first | second << 16;
        }
}

/* cp.async.cg.shared.global [to], [from], 16, given: what is behind the bytes that are given becomes zero. */
void block::begin_copies(uint32_t mask)
{
    const instruction &i = *now;
    const uint64_t *to = lanes(i.from[0]), *from = lanes(i.from[1]), *given = lanes(i.from[2]);
    uint32_t reading = 0;

    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1) {
            const uint32_t bytes = (uint32_t)given[l];
            if (bytes > 16 || to[l] % 16 || to[l] + 16 > shared.size())
                stop(l, "a copy to no place, or of more than it has");
            if (bytes)
                place(GLOBAL, from[l], 16, l, false), reading |= 1u << l;
            fly(to[l], 16, l);
            who->copies[l].push_back({to[l], from[l], bytes, who->groups[l]});
        }
    count(GLOBAL, from, reading, 16);
    count(SHARED, to, mask, 16);
}

/* All groups of a lane but the last few lie there. */
void block::wait_for_copies(uint32_t mask)
{
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1))
            continue;
        std::vector<copy> &own = who->copies[l];
        size_t n = 0;
        for (; n < own.size() && own[n].group + (size_t)now->offset < who->groups[l]; n++) {
            memset(shared.data() + own[n].to, 0, 16);
            memcpy(shared.data() + own[n].to, (const void *)own[n].from, own[n].bytes);
            for (size_t b = own[n].to; b < own[n].to + 16; b++) {
                shadow[b].under_way = false;
                shadow[b].wrote = of(l); /* others see it behind their next barrier */
            }
        }
        own.erase(own.begin(), own.begin() + (ptrdiff_t)n);
    }
}

/* ---- a warpgroup's products (manual, 9.7.15) and signals (9.7.13.15) ---- */

/* Registers of products that are under way: a sum may not be touched, a left factor not be written. */
void block::touch_registers(const instruction &i)
{
    const bool stores = i.is == STORE;
    const auto is = [](const std::vector<uint8_t> &flags, int r) { return r >= 0 && flags[(size_t)r]; };

    who->steps++;
    if (i.is == PRODUCT)
        return;
    for (int r : i.from)
        if (is(who->summing, r))
            stop(0, "a register is read that a product sums in, which has not been waited for");
    for (int r : i.to) {
        if (is(who->summing, r) || (!stores && is(who->factor, r)))
            stop(0, "a register of a product is touched that has not been waited for");
        if (r >= 0 && !stores)
            who->written[(size_t)r] = who->steps;
    }
}

/* 16 bytes that this warp's product is to read, or has. */
void block::touch_product(uint64_t at, bool done)
{
    reads &r = product_reads[at / UNIT];

    if (r.when != barriers)
        r = reads{barriers, {}};
    for (uint64_t i = at; !done && i < at + UNIT; i++) {
        const bytes_of_block &b = shadow[i];
        if (b.under_way || b.wrote.thread == NOBODY)
            stop(0, b.under_way ? "a product reads what a copy has under way" : "a product reads shared memory that nobody has written");
        if (b.wrote.when == barriers && b.wrote.warp != me() && who->seen[b.wrote.warp] < b.wrote.clock)
            stop(0, "a product reads shared memory that another thread writes, with no barrier between");
        if (who->fenced[b.wrote.warp] < b.wrote.clock)
            stop(0, "a product reads what was written without a fence.proxy.async behind it");
    }
    r.at[me()] = done ? who->clock : (uint32_t)UNDER_WAY;
}

/* A descriptor without swizzle: where the first piece of 8 x 16 bytes lies, and how far others are along the inner side (two of them)
 * and along the sum's columns (manual, 9.7.15.5.1.2). each(inner, column, place). */
template <typename EACH> void block::right_pieces(const instruction &i, EACH each)
{
    const uint64_t d = lanes(i.from[4])[0], at = (d & 0x3fff) << 4, inner = (d >> 16 & 0x3fff) << 4, column = (d >> 32 & 0x3fff) << 4;

    for (int l = 1; l < LANES; l++)
        if (lanes(i.from[4])[l] != d)
            stop(l, "lanes have different descriptors");
    if (d & ~(0x3fffull | 0x3fffull << 16 | 0x3fffull << 32))
        stop(0, "a descriptor of a form that is not known here");
    for (uint64_t k = 0; k < 2; k++)
        for (uint64_t n = 0; n < (uint64_t)i.count / 8; n++) {
            const uint64_t piece = at + k * inner + n * column;
            if (piece + 8 * UNIT > shared.size())
                stop(0, "a product reads outside of shared memory");
            each(k, n, piece);
        }
}

void block::begin_product(uint32_t mask)
{
    const instruction &i = *now;

    whole_warp(mask);
    if (mask != 0xffffffffu || threads % (4 * LANES))
        stop(0, "a product of less than a warpgroup");
    for (int r : i.to)
        if (who->factor[(size_t)r] || (!who->summing[(size_t)r] && who->written[(size_t)r] > who->fence))
            stop(0, "a sum was written behind the last wgmma.fence");
    for (size_t n = 0; n < 4; n++)
        if (who->summing[(size_t)i.from[n]] || who->written[(size_t)i.from[n]] > who->fence)
            stop(0, "a left factor was written behind the last wgmma.fence");
    right_pieces(i, [&](uint64_t, uint64_t, uint64_t piece) {
        for (uint64_t b = 0; b < 8 * UNIT; b += UNIT)
            touch_product(piece + b, false);
    });
    for (int r : i.to)
        who->summing[(size_t)r]++;
    for (size_t n = 0; n < 4; n++)
        who->factor[(size_t)i.from[n]]++;
    who->asked.push_back({i.line, lanes(i.from[4])[0]});
    who->products.push_back(product{&i, who->product_groups});
}

/* What a warp has of it: 16 rows, which lie over its lanes as those of mma.m16n8k16. A piece's rows of 16 bytes are columns of the
 * right factor, or if turned places of the inner side. */
void block::make_product(const instruction &i)
{
    std::vector<float> right((size_t)(16 * i.count));
    const bool add = lanes(i.from[5])[0];

    right_pieces(i, [&](uint64_t k, uint64_t n, uint64_t piece) {
        for (uint64_t row = 0; row < 8; row++)
            for (uint64_t c = 0; c < 8; c++) {
                uint16_t x;
                memcpy(&x, shared.data() + piece + UNIT * row + 2 * c, sizeof x);
                right[(k * 8 + (i.turned ? row : c)) * (size_t)i.count + n * 8 + (i.turned ? c : row)] = f32_of_bf16(x);
            }
        for (uint64_t b = 0; b < 8 * UNIT; b += UNIT)
            touch_product(piece + b, true);
    });
    float left[16][16];
    for (int l = 0; l < LANES; l++)
        for (int e = 0; e < 8; e++)
            left[l / 4 + (e % 4 < 2 ? 0 : 8)][2 * (l % 4) + e % 2 + e / 4 * 8] = half_of(lanes(i.from[(size_t)(e / 2)])[l], e % 2);
    for (int l = 0; l < LANES; l++)
        for (int e = 0; e < i.count / 2; e++) {
            const int row = l / 4 + (e % 4 < 2 ? 0 : 8), column = e / 4 * 8 + l % 4 * 2 + e % 2;
            double all = 0.0;
            float before;
            memcpy(&before, &lanes(i.to[(size_t)e])[l], sizeof before);
            for (int n = 0; n < 16; n++)
                all += (double)left[row][n] * (double)right[(size_t)(n * i.count + column)];
            const float sum = (float)(all + (add ? (double)before : 0.0));
            uint64_t out = 0;
            memcpy(&out, &sum, sizeof sum);
            lanes(i.to[(size_t)e])[l] = out;
        }
    for (int r : i.to)
        who->summing[(size_t)r]--;
    for (size_t n = 0; n < 4; n++)
        who->factor[(size_t)i.from[n]]--;
}

void block::wait_for_products(uint32_t mask)
{
    size_t n = 0;

    whole_warp(mask);
    for (; n < who->products.size() && who->products[n].group + (size_t)now->offset < who->product_groups; n++)
        make_product(*who->products[n].is);
    who->products.erase(who->products.begin(), who->products.begin() + (ptrdiff_t)n);
}

/* What a whole warp has written so far is shown to products. */
void block::fence_proxy(uint32_t mask)
{
    whole_warp(mask);
    who->fenced[me()] = who->clock++;
}

void block::begin_signal(uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1) {
            const uint64_t at = lanes(now->from[0])[l] + (uint64_t)now->offset;
            signal s;
            s.count = s.left = (uint32_t)lanes(now->from[1])[l];
            place(SHARED, at, 8, l, true);
            signals[at] = s;
        }
}

void block::give_signal(uint32_t mask)
{
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1))
            continue;
        const uint64_t at = lanes(now->from[0])[l] + (uint64_t)now->offset;
        place(SHARED, at, 8, l, false);
        if (!signals.count(at))
            stop(l, "an mbarrier that nobody has begun");
        signal &s = signals[at];
        who->seen[me()] = who->clock;
        learn(&s.seen_now, who->seen);
        learn(&s.fenced_now, who->fenced);
        if (--s.left == 0) {
            s.left = s.count;
            s.passed++;
            s.seen = s.seen_now;
            s.fenced = s.fenced_now;
        }
        events++;
    }
    who->clock++;
}

/* Whether the phase of this parity has passed; a warp that is told no lets others go on. */
void block::test_signal(uint32_t mask)
{
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1))
            continue;
        const uint64_t at = lanes(now->from[0])[l] + (uint64_t)now->offset;
        place(SHARED, at, 8, l, false);
        if (!signals.count(at))
            stop(l, "an mbarrier that nobody has begun");
        const signal &s = signals[at];
        const bool passed = s.passed % 2 != (lanes(now->from[1])[l] & 1);
        lanes(now->to[0])[l] = passed;
        who->yields = who->yields || !passed;
        if (passed) {
            learn(&who->seen, s.seen);
            learn(&who->fenced, s.fenced);
        }
    }
}

/* A warpgroup's warps have all asked for the same, and nobody has registers that there are not. */
void block::check_groups()
{
    int64_t registers = 0;

    for (size_t n = 0; n < warps.size(); n++) {
        who = &warps[n];
        registers += who->most_registers * LANES;
        if (who->asked != warps[n / 4 * 4].asked)
            stop(0, "a warpgroup's warps have asked for different products");
    }
    if (registers > REGISTERS_ALL)
        stop(0, "more registers are taken than there are");
}

void block::join(uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1) {
            uint64_t all = 0;
            for (size_t n = 0; n < now->from.size(); n++)
                all |= (lanes(now->from[n])[l] & (~0ull >> (64 - 8 * now->bytes))) << 8 * now->bytes * (int)n;
            lanes(now->to[0])[l] = all;
        }
}

void block::split(uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1) {
            const uint64_t all = lanes(now->from[0])[l];
            for (size_t n = 0; n < now->to.size(); n++)
                if (now->to[n] >= 0)
                    lanes(now->to[n])[l] = all >> 8 * now->bytes * (int)n & (~0ull >> (64 - 8 * now->bytes));
        }
}

/* bfi.b32 to, a, b, c, d: the lowest d bits of a over those of b from bit c on. */
void block::put_field(uint32_t mask)
{
    const uint64_t *a = lanes(now->from[0]), *b = lanes(now->from[1]), *c = lanes(now->from[2]), *d = lanes(now->from[3]);

    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1) {
            const uint64_t first = c[l] & 255, bits = ((1ull << std::min<uint64_t>(d[l] & 255, 32)) - 1) << first;
            lanes(now->to[0])[l] = (uint32_t)((b[l] & ~bits) | (a[l] << first & bits));
        }
}

/* ---- a warp's way ---- */

/* The lanes that are behind go on, all that are at the same place. */
void block::choose()
{
    size_t least = SIZE_MAX;

    for (int l = 0; l < LANES; l++)
        if (who->live >> l & 1)
            least = std::min(least, who->at[l]);
    who->pc = least;
    who->go = 0;
    for (int l = 0; l < LANES; l++)
        if ((who->live >> l & 1) && who->at[l] == least)
            who->go |= 1u << l;
}

void block::branch(uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (who->go >> l & 1)
            who->at[l] = mask >> l & 1 ? (size_t)now->offset : who->pc + 1;
}

void block::end(uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if ((mask >> l & 1) && !who->copies[l].empty())
            stop(l, "it ends without having waited for its copies");
    if (!who->products.empty())
        stop(0, "it ends without having waited for its products");
    who->live &= ~mask;
    events++;
}

/* One instruction of who->go, which goes on behind it. */
void block::step()
{
    const instruction &i = k.code[who->pc];
    uint32_t mask = who->go;

    now = &i;
    cost->instructions++;
    for (int l = 0; i.guard >= 0 && l < LANES; l++)
        if ((lanes(i.guard)[l] != 0) == i.unless)
            mask &= ~(1u << l);
    if (i.is == BRANCH) {
        branch(mask);
        return choose();
    }
    if (mask && k.products)
        touch_registers(i);
    if (mask)
        switch (i.is) {
        case EACH_LANE: {
            const auto from = [&](size_t n) { return n < i.from.size() ? lanes(i.from[n]) : lanes(k.laneid); };
            i.run(lanes(i.to[0]), from(0), from(1), from(2), mask);
            break;
        }
        case LOAD:
        case STORE: access(mask); break;
        case BARRIER: whole_warp(mask), who->waits = true, events++; break;
        case WARP_BARRIER: whole_warp(mask), who->when++; break;
        case SHUFFLE: shuffle(mask); break;
        case MMA: multiply(mask); break;
        case MATRICES: matrices(mask); break;
        case COPY: begin_copies(mask); break;
        case COPY_GROUP:
            for (int l = 0; l < LANES; l++)
                who->groups[l] += mask >> l & 1;
            break;
        case COPY_WAIT: wait_for_copies(mask); break;
        case PRODUCT: begin_product(mask); break;
        case PRODUCT_FENCE: whole_warp(mask), who->fence = who->steps; break;
        case PRODUCT_GROUP: whole_warp(mask), who->product_groups++; break;
        case PRODUCT_WAIT: wait_for_products(mask); break;
        case PROXY_FENCE: fence_proxy(mask); break;
        case REGISTERS: whole_warp(mask), who->most_registers = i.offset; break;
        case SIGNAL_BEGIN: begin_signal(mask); break;
        case SIGNAL_GIVE: give_signal(mask); break;
        case SIGNAL_TEST: test_signal(mask); break;
        case JOIN: join(mask); break;
        case SPLIT: split(mask); break;
        case FIELD: put_field(mask); break;
        case RETURN: end(mask); break;
        default: stop(__builtin_ctz(mask), "an instruction that is not known here");
        }
    const bool together = who->go == who->live;
    who->pc++;
    if (together && i.is != RETURN)
        return;
    for (int l = 0; l < LANES; l++)
        if (who->go >> l & 1)
            who->at[l] = who->pc;
    choose();
}

block::block(const kernel &kernel_, const std::vector<unsigned char> &parameters_, unsigned number_, grid blocks_, grid shape_,
             costs *c)
    : k(kernel_), parameters(parameters_), threads(shape_.x * shape_.y * shape_.z), number(number_), blocks(blocks_),
      shape(shape_), mine{number_ % blocks_.x, number_ / blocks_.x % blocks_.y, number_ / blocks_.x / blocks_.y},
      shared(kernel_.shared_bytes, 0xff), shadow(kernel_.shared_bytes),
      product_reads(kernel_.products ? kernel_.shared_bytes / UNIT + 1 : 0), warps((threads + LANES - 1) / LANES), begun(++barriers),
      cost(c)
{
    for (size_t n = 0; n < warps.size(); n++) {
        warp &w = warps[n];
        who = &w;
        w.first = (unsigned)n * LANES;
        w.live = w.go = threads - w.first >= LANES ? 0xffffffffu : (1u << (threads - w.first)) - 1;
        w.registers.reset(new uint64_t[(size_t)k.registers * LANES]); /* what nobody wrote is anything */
        w.written.assign(k.products ? (size_t)k.registers : 0, 0);
        w.summing.assign(w.written.size(), 0);
        w.factor.assign(w.written.size(), 0);
        w.local.assign((size_t)LANES * k.local_bytes, 0xff);
        for (const auto &constant : k.constants)
            std::fill_n(lanes(constant.first), LANES, constant.second);
        const unsigned of_all[3][3] = {{shape.x, shape.y, shape.z}, {mine.x, mine.y, mine.z}, {blocks.x, blocks.y, blocks.z}};
        for (int axis = 0; axis < 3; axis++) {
            std::fill_n(lanes(k.ntid[axis]), LANES, of_all[0][axis]);
            std::fill_n(lanes(k.ctaid[axis]), LANES, of_all[1][axis]);
            std::fill_n(lanes(k.nctaid[axis]), LANES, of_all[2][axis]);
        }
        for (unsigned l = 0; l < LANES; l++) {
            const unsigned t = w.first + l;
            lanes(k.laneid)[l] = l;
            lanes(k.tid[0])[l] = t % shape.x;
            lanes(k.tid[1])[l] = t / shape.x % shape.y;
            lanes(k.tid[2])[l] = t / shape.x / shape.y;
        }
    }
}

/* All that live wait: what each has shown to products is known to all. */
void block::all_barrier()
{
    clocks fenced = {};

    for (const warp &w : warps)
        learn(&fenced, w.fenced);
    for (warp &w : warps) {
        w.fenced = fenced;
        w.waits = false;
    }
    barriers++;
}

/* Each warp until it waits or ends, or another must go on first; then those that wait go on. Every other launch takes the warps
 * backwards. */
void block::run()
{
    for (uint64_t vain = 0, before = 0;; vain = events == before ? vain + 1 : 0, before = events) {
        bool all_ended = true, all_wait = true;
        for (size_t n = 0; n < warps.size(); n++) {
            who = &warps[launches % 2 ? n : warps.size() - 1 - n];
            who->yields = false;
            while (who->live && !who->waits && !who->yields)
                step();
            all_ended = all_ended && !who->live;
            all_wait = all_wait && (!who->live || who->waits);
        }
        if (all_ended)
            break;
        if (all_wait)
            all_barrier();
        else if (vain > VAIN_MOST)
            stop(0, "it waits for an mbarrier that others do not give to");
    }
    check_groups();
    barriers++;
}

} // namespace

void execute(const kernel &k, grid blocks, grid threads, const std::vector<unsigned char> &parameters)
{
    costs *c = &all_costs[k.name];
    const uint64_t all = (uint64_t)blocks.x * blocks.y * blocks.z;

    launches++;
    c->launches++;
    c->text = k.text;
    block::forget();
    for (uint64_t n = 0; n < all; n++)
        block(k, parameters, (unsigned)(launches % 2 ? n : all - 1 - n), blocks, threads, c).run();
}

void show_costs()
{
    fprintf(stderr, "%-10s %12s %12s %12s %12s %12s  kernel\n", "launches", "instructions", "sectors", "at least", "bank turns",
            "at least");
    for (const auto &c : all_costs) {
        fprintf(stderr, "%-10llu %12llu %12llu %12llu %12llu %12llu  %s\n", (unsigned long long)c.second.launches,
                (unsigned long long)c.second.instructions, (unsigned long long)c.second.sectors,
                (unsigned long long)c.second.sectors_least, (unsigned long long)c.second.banks,
                (unsigned long long)c.second.banks_least, c.first.c_str());
        for (const auto &line : c.second.lines)
            if (line.second.first > line.second.second + line.second.second / 4)
                fprintf(stderr, "    %llu, at least %llu: %s\n", (unsigned long long)line.second.first,
                        (unsigned long long)line.second.second, (*c.second.text)[(size_t)line.first - 1].c_str());
    }
}

} // namespace ptx
