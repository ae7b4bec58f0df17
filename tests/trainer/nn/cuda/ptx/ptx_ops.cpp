/* What a lane computes by itself: one function for each instruction and type. */
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "tests/trainer/nn/cuda/ptx/ptx.h"

extern "C" {
#include "cluster/base/dtype.h"
}

namespace ptx {

namespace {

template <typename T> T get(uint64_t x)
{
    T out;

    memcpy(&out, &x, sizeof out);
    return out;
}

template <typename T> uint64_t put(T x)
{
    uint64_t out = 0;

    memcpy(&out, &x, sizeof x);
    return out;
}

/* F(a, b, c) of every lane that takes part. */
template <typename TO, typename T, TO (*F)(T, T, T)>
void each(uint64_t *to, const uint64_t *a, const uint64_t *b, const uint64_t *c, uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1)
            to[l] = put<TO>(F(get<T>(a[l]), get<T>(b[l]), get<T>(c[l])));
}

/* ---- numbers ---- */

template <typename T> T add(T a, T b, T) { return a + b; }
template <typename T> T sub(T a, T b, T) { return a - b; }
template <typename T> T mul(T a, T b, T) { return a * b; }
template <typename T> T quotient(T a, T b, T) { return b == 0 ? (T)-1 : a / b; }
template <typename T> T rest(T a, T b, T) { return b == 0 ? a : a % b; }
template <typename T> T divided(T a, T b, T) { return a / b; }
template <typename T> T negated(T a, T, T) { return -a; }
template <typename T> T absolute(T a, T, T) { return a < 0 ? -a : a; }
template <typename T> T less(T a, T b, T) { return a < b ? a : b; }
template <typename T> T more(T a, T b, T) { return a > b ? a : b; }
template <typename T> T fewest(T a, T b, T) { return std::fmin(a, b); }
template <typename T> T most(T a, T b, T) { return std::fmax(a, b); }
template <typename T> T magnitude(T a, T, T) { return std::fabs(a); }
template <typename T> T mad(T a, T b, T c) { return a * b + c; }
template <typename T> T fused(T a, T b, T c) { return std::fma(a, b, c); }
template <typename T> T root(T a, T, T) { return std::sqrt(a); }
template <typename T> T inverse(T a, T, T) { return 1 / a; }

/* A sum of which less than the last bit is dropped towards minus infinity. */
float fused_down(float a, float b, float c)
{
    const int before = fegetround();
    volatile float x = a, y = b, z = c, sum;

    fesetround(FE_DOWNWARD);
    sum = std::fma(x, y, z);
    fesetround(before);
    return sum;
}

template <typename WIDE, typename T> WIDE wide(T a, T b, T) { return (WIDE)a * (WIDE)b; }
/* c is twice as wide, so it comes as the lane has it. */
template <typename WIDE, typename T>
void mad_wide(uint64_t *to, const uint64_t *a, const uint64_t *b, const uint64_t *c, uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1)
            to[l] = put<WIDE>((WIDE)get<T>(a[l]) * (WIDE)get<T>(b[l]) + get<WIDE>(c[l]));
}
template <typename T> T upper_32(T a, T b, T) { return (T)((__int128)a * (__int128)b >> 32); }
template <typename T> T upper_64(T a, T b, T) { return (T)(sizeof(T) == 8 ? (__int128)a * (__int128)b >> 64 : 0); }
uint64_t upper_u64(uint64_t a, uint64_t b, uint64_t) { return (uint64_t)((unsigned __int128)a * b >> 64); }

/* Of 2^x and its kin: what is smaller than normal is zero (.ftz). */
float flushed(float x) { return std::fabs(x) < 1.17549435e-38f ? std::copysign(0.0f, x) : x; }
float exp2_of(float x, float, float) { return std::exp2(x); }
float exp2_flushed(float x, float, float) { return flushed(std::exp2(flushed(x))); }
float log2_of(float x, float, float) { return std::log2(x); }
float log2_flushed(float x, float, float) { return std::log2(flushed(x)); }
float with_sign(float sign, float of, float) { return std::copysign(of, sign); }
float sine(float x, float, float) { return std::sin(x); }
float cosine(float x, float, float) { return std::cos(x); }
/* rcp.approx.ftz.f64: of the upper word, and what it gives has only that. */
double upper_word(double x)
{
    uint64_t bits;

    std::memcpy(&bits, &x, sizeof bits);
    bits &= 0xffffffff00000000u;
    std::memcpy(&x, &bits, sizeof x);
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0, x) : x;
}
double rough_inverse(double x, double, double) { return upper_word(1.0 / upper_word(x)); }
float inverse_root(float x, float, float) { return 1.0f / std::sqrt(x); }

/* ---- bits ---- */

template <typename T> T both(T a, T b, T) { return a & b; }
template <typename T> T either(T a, T b, T) { return a | b; }
template <typename T> T differ(T a, T b, T) { return a ^ b; }
template <typename T> T turned_over(T a, T, T) { return ~a; }
uint8_t not_so(uint8_t a, uint8_t, uint8_t) { return !a; }
template <typename T> T copied(T a, T, T) { return a; }

/* A shift's width has 32 bits, whatever is shifted, and goes no further than all of them. */
template <typename T> void left(uint64_t *to, const uint64_t *a, const uint64_t *b, const uint64_t *, uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1)
            to[l] = put<T>((uint32_t)b[l] >= 8 * sizeof(T) ? (T)0 : (T)(get<T>(a[l]) << (uint32_t)b[l]));
}

template <typename T> void right(uint64_t *to, const uint64_t *a, const uint64_t *b, const uint64_t *, uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1) {
            const uint32_t by = (uint32_t)b[l], all = 8 * sizeof(T);
            to[l] = put<T>(by < all ? (T)(get<T>(a[l]) >> by) : (T)(get<T>(a[l]) < 0 ? -1 : 0));
        }
}

/* The upper word of (b : a) moved left, the lower one moved right. */
uint32_t funnel_left(uint32_t a, uint32_t b, uint32_t by) { return (uint32_t)((((uint64_t)b << 32 | a) << (by & 31)) >> 32); }
uint32_t funnel_right(uint32_t a, uint32_t b, uint32_t by) { return (uint32_t)(((uint64_t)b << 32 | a) >> (by & 31)); }

uint32_t permuted(uint32_t a, uint32_t b, uint32_t how)
{
    const uint64_t all = (uint64_t)b << 32 | a;
    uint32_t out = 0;

    for (int k = 0; k < 4; k++) {
        const uint32_t pick = how >> 4 * k & 15;
        uint8_t byte = (uint8_t)(all >> 8 * (pick & 7));
        if (pick & 8)
            byte = byte & 0x80 ? 0xff : 0;
        out |= (uint32_t)byte << 8 * k;
    }
    return out;
}

/* ---- comparisons, which give 0 or 1 ---- */

template <typename T> uint8_t eq(T a, T b, T) { return a == b; }
template <typename T> uint8_t ne(T a, T b, T) { return a < b || a > b; } /* of numbers: false for NaN */
template <typename T> uint8_t lt(T a, T b, T) { return a < b; }
template <typename T> uint8_t le(T a, T b, T) { return a <= b; }
template <typename T> uint8_t gt(T a, T b, T) { return a > b; }
template <typename T> uint8_t ge(T a, T b, T) { return a >= b; }
template <typename T> uint8_t alike(T a, T b, T) { return !(a < b || a > b); } /* equ: or NaN */
template <typename T> uint8_t unlike(T a, T b, T) { return !(a == b); }        /* neu */
template <typename T> uint8_t below(T a, T b, T) { return !(a >= b); }
template <typename T> uint8_t no_more(T a, T b, T) { return !(a > b); }
template <typename T> uint8_t above(T a, T b, T) { return !(a <= b); }
template <typename T> uint8_t no_less(T a, T b, T) { return !(a < b); }
template <typename T> uint8_t ordered(T a, T b, T) { return !std::isnan(a) && !std::isnan(b); }
template <typename T> uint8_t unordered(T a, T b, T) { return std::isnan(a) || std::isnan(b); }

/* a where c, else b. */
void chosen(uint64_t *to, const uint64_t *a, const uint64_t *b, const uint64_t *c, uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1)
            to[l] = c[l] ? a[l] : b[l];
}

/* ---- conversions ---- */

template <typename TO, typename FROM>
void converted(uint64_t *to, const uint64_t *a, const uint64_t *, const uint64_t *, uint32_t mask)
{
    for (int l = 0; l < LANES; l++)
        if (mask >> l & 1)
            to[l] = put<TO>((TO)get<FROM>(a[l]));
}

/* To whole numbers: what does not fit is the nearest that does, NaN is 0. */
template <typename TO, typename FROM, FROM (*ROUND)(FROM)>
void whole(uint64_t *to, const uint64_t *a, const uint64_t *, const uint64_t *, uint32_t mask)
{
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1))
            continue;
        const FROM x = ROUND(get<FROM>(a[l])), least = (FROM)std::numeric_limits<TO>::min(),
                   end = std::ldexp((FROM)1, (int)std::numeric_limits<TO>::digits);
        to[l] = put<TO>(std::isnan(x) ? (TO)0
                        : x < least   ? std::numeric_limits<TO>::min()
                        : x >= end    ? std::numeric_limits<TO>::max()
                                      : (TO)x);
    }
}

template <typename T, T (*ROUND)(T)> T rounded(T a, T, T) { return ROUND(a); }
float saturated(float a, float, float) { return !(a > 0.0f) ? 0.0f : a > 1.0f ? 1.0f : a; }
float of_f16(uint16_t a, uint16_t, uint16_t) { return f32_of_f16(a); }
float of_bf16(uint16_t a, uint16_t, uint16_t) { return f32_of_bf16(a); }
uint16_t to_f16(float a, float, float) { return f16_of_f32(a); }
uint16_t to_bf16(float a, float, float) { return bf16_of_f32(a); }
/* cvt.rn.bf16x2.f32 d, a, b: a is the upper half. */
uint32_t to_bf16_two(float a, float b, float) { return (uint32_t)bf16_of_f32(a) << 16 | bf16_of_f32(b); }

/* ---- the list ---- */

using table = std::unordered_map<std::string, lane_op>;

template <typename T> void integers(table &t, const std::string &s, const std::string &u)
{
    for (const std::string &type : {s, u}) {
        t["add." + type] = each<T, T, add<T>>;
        t["sub." + type] = each<T, T, sub<T>>;
        t["mul.lo." + type] = each<T, T, mul<T>>;
        t["mad.lo." + type] = each<T, T, mad<T>>;
    }
}

/* What depends on the sign; T as `type` has it. */
template <typename T> void signed_ones(table &t, const std::string &type)
{
    t["div." + type] = each<T, T, quotient<T>>;
    t["rem." + type] = each<T, T, rest<T>>;
    t["min." + type] = each<T, T, less<T>>;
    t["max." + type] = each<T, T, more<T>>;
    t["neg." + type] = each<T, T, negated<T>>;
    t["abs." + type] = each<T, T, absolute<T>>;
    t["shr." + type] = right<T>;
    t["eq." + type] = each<uint8_t, T, eq<T>>;
    t["ne." + type] = each<uint8_t, T, ne<T>>;
    t["lt." + type] = t["lo." + type] = each<uint8_t, T, lt<T>>;
    t["le." + type] = t["ls." + type] = each<uint8_t, T, le<T>>;
    t["gt." + type] = t["hi." + type] = each<uint8_t, T, gt<T>>;
    t["ge." + type] = t["hs." + type] = each<uint8_t, T, ge<T>>;
}

template <typename T> void bits(table &t, const std::string &type)
{
    t["and." + type] = each<T, T, both<T>>;
    t["or." + type] = each<T, T, either<T>>;
    t["xor." + type] = each<T, T, differ<T>>;
    t["not." + type] = each<T, T, turned_over<T>>;
    t["shl." + type] = left<T>;
    t["shr." + type] = right<T>;
    t["eq." + type] = each<uint8_t, T, eq<T>>;
    t["ne." + type] = each<uint8_t, T, ne<T>>;
    for (const char *kind : {"b", "u", "s", "f"}) {
        const std::string as = kind + type.substr(1);
        t["mov." + as] = each<T, T, copied<T>>;
        t["selp." + as] = chosen;
    }
}

template <typename T> void reals(table &t, const std::string &type)
{
    for (const char *how : {".", ".rn."}) {
        t["add" + (how + type)] = each<T, T, add<T>>;
        t["sub" + (how + type)] = each<T, T, sub<T>>;
        t["mul" + (how + type)] = each<T, T, mul<T>>;
        t["div" + (how + type)] = each<T, T, divided<T>>;
        t["fma" + (how + type)] = each<T, T, fused<T>>;
        t["sqrt" + (how + type)] = each<T, T, root<T>>;
        t["rcp" + (how + type)] = each<T, T, inverse<T>>;
    }
    t["min." + type] = each<T, T, fewest<T>>;
    t["max." + type] = each<T, T, most<T>>;
    t["neg." + type] = each<T, T, negated<T>>;
    t["abs." + type] = each<T, T, magnitude<T>>;
    t["cvt.rni." + type + "." + type] = each<T, T, rounded<T, std::nearbyint>>;
    t["cvt.rzi." + type + "." + type] = each<T, T, rounded<T, std::trunc>>;
    t["cvt.rmi." + type + "." + type] = each<T, T, rounded<T, std::floor>>;
    t["cvt.rpi." + type + "." + type] = each<T, T, rounded<T, std::ceil>>;
    t["eq." + type] = each<uint8_t, T, eq<T>>;
    t["ne." + type] = each<uint8_t, T, ne<T>>;
    t["lt." + type] = each<uint8_t, T, lt<T>>;
    t["le." + type] = each<uint8_t, T, le<T>>;
    t["gt." + type] = each<uint8_t, T, gt<T>>;
    t["ge." + type] = each<uint8_t, T, ge<T>>;
    t["equ." + type] = each<uint8_t, T, alike<T>>;
    t["neu." + type] = each<uint8_t, T, unlike<T>>;
    t["ltu." + type] = each<uint8_t, T, below<T>>;
    t["leu." + type] = each<uint8_t, T, no_more<T>>;
    t["gtu." + type] = each<uint8_t, T, above<T>>;
    t["geu." + type] = each<uint8_t, T, no_less<T>>;
    t["num." + type] = each<uint8_t, T, ordered<T>>;
    t["nan." + type] = each<uint8_t, T, unordered<T>>;
}

template <typename TO, typename FROM> void one_conversion(table &t, const std::string &to, const std::string &from)
{
    t["cvt." + to + "." + from] = converted<TO, FROM>;
}

template <typename FROM> void conversions(table &t, const std::string &from)
{
    one_conversion<int8_t, FROM>(t, "s8", from);
    one_conversion<uint8_t, FROM>(t, "u8", from);
    one_conversion<int16_t, FROM>(t, "s16", from);
    one_conversion<uint16_t, FROM>(t, "u16", from);
    one_conversion<int32_t, FROM>(t, "s32", from);
    one_conversion<uint32_t, FROM>(t, "u32", from);
    one_conversion<int64_t, FROM>(t, "s64", from);
    one_conversion<uint64_t, FROM>(t, "u64", from);
    one_conversion<float, FROM>(t, "rn.f32", from);
    one_conversion<double, FROM>(t, "rn.f64", from);
}

template <typename TO, typename FROM> void to_whole(table &t, const std::string &to, const std::string &from)
{
    t["cvt.rni." + to + "." + from] = whole<TO, FROM, std::nearbyint>;
    t["cvt.rzi." + to + "." + from] = whole<TO, FROM, std::trunc>;
    t["cvt.rmi." + to + "." + from] = whole<TO, FROM, std::floor>;
    t["cvt.rpi." + to + "." + from] = whole<TO, FROM, std::ceil>;
}

template <typename FROM> void to_whole_ones(table &t, const std::string &from)
{
    to_whole<int32_t, FROM>(t, "s32", from);
    to_whole<uint32_t, FROM>(t, "u32", from);
    to_whole<int64_t, FROM>(t, "s64", from);
    to_whole<uint64_t, FROM>(t, "u64", from);
}

void of_types(table &t)
{
    integers<uint16_t>(t, "s16", "u16");
    integers<uint32_t>(t, "s32", "u32");
    integers<uint64_t>(t, "s64", "u64");
    signed_ones<int16_t>(t, "s16");
    signed_ones<uint16_t>(t, "u16");
    signed_ones<int32_t>(t, "s32");
    signed_ones<uint32_t>(t, "u32");
    signed_ones<int64_t>(t, "s64");
    signed_ones<uint64_t>(t, "u64");
    bits<uint16_t>(t, "b16");
    bits<uint32_t>(t, "b32");
    bits<uint64_t>(t, "b64");
    reals<float>(t, "f32");
    reals<double>(t, "f64");
    conversions<int8_t>(t, "s8");
    conversions<uint8_t>(t, "u8");
    conversions<int16_t>(t, "s16");
    conversions<uint16_t>(t, "u16");
    conversions<int32_t>(t, "s32");
    conversions<uint32_t>(t, "u32");
    conversions<int64_t>(t, "s64");
    conversions<uint64_t>(t, "u64");
    to_whole_ones<float>(t, "f32");
    to_whole_ones<double>(t, "f64");
}

void odd_ones(table &t)
{
    t["mul.wide.s32"] = each<int64_t, int32_t, wide<int64_t, int32_t>>;
    t["mul.wide.u32"] = each<uint64_t, uint32_t, wide<uint64_t, uint32_t>>;
    t["mul.wide.s16"] = each<int32_t, int16_t, wide<int32_t, int16_t>>;
    t["mul.wide.u16"] = each<uint32_t, uint16_t, wide<uint32_t, uint16_t>>;
    t["mad.wide.s32"] = mad_wide<int64_t, int32_t>;
    t["mad.wide.u32"] = mad_wide<uint64_t, uint32_t>;
    t["mul.hi.s32"] = each<int32_t, int32_t, upper_32<int32_t>>;
    t["mul.hi.u32"] = each<uint32_t, uint32_t, upper_32<uint32_t>>;
    t["mul.hi.s64"] = each<int64_t, int64_t, upper_64<int64_t>>;
    t["mul.hi.u64"] = each<uint64_t, uint64_t, upper_u64>;
    t["fma.rm.f32"] = each<float, float, fused_down>;
    t["ex2.approx.f32"] = each<float, float, exp2_of>;
    t["ex2.approx.ftz.f32"] = each<float, float, exp2_flushed>;
    t["lg2.approx.f32"] = each<float, float, log2_of>;
    t["lg2.approx.ftz.f32"] = each<float, float, log2_flushed>;
    t["copysign.f32"] = each<float, float, with_sign>;
    t["sin.approx.f32"] = each<float, float, sine>;
    t["cos.approx.f32"] = each<float, float, cosine>;
    t["rcp.approx.ftz.f64"] = each<double, double, rough_inverse>;
    t["rsqrt.approx.f32"] = each<float, float, inverse_root>;
    t["and.pred"] = each<uint8_t, uint8_t, both<uint8_t>>;
    t["or.pred"] = each<uint8_t, uint8_t, either<uint8_t>>;
    t["xor.pred"] = each<uint8_t, uint8_t, differ<uint8_t>>;
    t["not.pred"] = each<uint8_t, uint8_t, not_so>;
    t["mov.pred"] = each<uint8_t, uint8_t, copied<uint8_t>>;
    t["shf.l.wrap.b32"] = each<uint32_t, uint32_t, funnel_left>;
    t["shf.r.wrap.b32"] = each<uint32_t, uint32_t, funnel_right>;
    t["prmt.b32"] = each<uint32_t, uint32_t, permuted>;
    t["cvt.rn.f32.f64"] = converted<float, double>;
    t["cvt.f64.f32"] = converted<double, float>;
    t["cvt.sat.f32.f32"] = each<float, float, saturated>;
    t["cvt.f32.f16"] = each<float, uint16_t, of_f16>;
    t["cvt.f32.bf16"] = each<float, uint16_t, of_bf16>;
    t["cvt.rn.f16.f32"] = each<uint16_t, float, to_f16>;
    t["cvt.rn.bf16.f32"] = each<uint16_t, float, to_bf16>;
    t["cvt.rn.bf16x2.f32"] = each<uint32_t, float, to_bf16_two>;
}

} // namespace

lane_op op_of(const std::string &name)
{
    static const table all = [] {
        table t;
        of_types(t);
        odd_ones(t);
        return t;
    }();
    const auto found = all.find(name);

    return found == all.end() ? nullptr : found->second;
}

} // namespace ptx
