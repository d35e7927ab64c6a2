// The functions of cuda_fp16.h and cuda_bf16.h, for one of these types at a time. HALF, PAIR: the types; EXPONENT,
// MANTISSA: bits of the fields. Everything is computed in double, and rounded once.
#include "cuda_math.h"

#ifndef FORERUN_ON_CPU_HALVES
#define FORERUN_ON_CPU_HALVES
namespace on_cpu {
template <int exponent_bits, int mantissa_bits> double decoded(unsigned short bits) {
    const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1), bias = (1 << (exponent_bits - 1)) - 1;
    const double mantissa = bits & ((1 << mantissa_bits) - 1);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return mantissa ? __builtin_nan("") : sign * __builtin_inf();
    return sign * ldexp(exponent ? mantissa + (1 << mantissa_bits) : mantissa, max(exponent, 1) - bias - mantissa_bits);
}
template <int exponent_bits, int mantissa_bits> unsigned short encoded(double x, int mode = FE_TONEAREST) {
    const unsigned short sign = signbit(x) ? 0x8000 : 0;
    const int bias = (1 << (exponent_bits - 1)) - 1, infinite = ((1 << exponent_bits) - 1) << mantissa_bits;
    if (x != x) return 0x7FFF;
    if (isinf(x)) return sign | infinite;
    if (x == 0) return sign;
    const int exponent = max(ilogb(x), 1 - bias);
    const double units = ldexp(x, mantissa_bits - exponent);
    const double whole = mode == FE_UPWARD ? ceil(units) : mode == FE_DOWNWARD ? floor(units)
                         : mode == FE_TOWARDZERO ? trunc(units) : rint(units);
    const int magnitude = static_cast<int>(fabs(whole));
    const int bits = magnitude < 1 << mantissa_bits ? magnitude : magnitude + ((exponent + bias - 1) << mantissa_bits);
    const bool away = mode == FE_TONEAREST || mode == (sign ? FE_DOWNWARD : FE_UPWARD);
    return sign | (bits < infinite ? bits : away ? infinite : infinite - 1);
}
}  // namespace on_cpu
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define JOIN3(a, b, c) JOIN(JOIN(a, b), c)

struct HALF {
    unsigned short bits;
    HALF() = default;
    HALF(float x) : bits(on_cpu::encoded<EXPONENT, MANTISSA>(x)) {}
    HALF(double x) : bits(on_cpu::encoded<EXPONENT, MANTISSA>(x)) {}
    HALF(int x) : HALF(static_cast<double>(x)) {}
    HALF(unsigned x) : HALF(static_cast<double>(x)) {}
    HALF(long long x) : HALF(static_cast<double>(x)) {}
    HALF(unsigned long long x) : HALF(static_cast<double>(x)) {}
    operator float() const { return static_cast<float>(on_cpu::decoded<EXPONENT, MANTISSA>(bits)); }
    static HALF of_bits(unsigned short bits) { HALF h; h.bits = bits; return h; }
    static HALF saturated(double x) { return HALF(x > 0 ? x < 1 ? x : 1.0 : 0.0); }
    static HALF rounded(double x, int mode) { return of_bits(on_cpu::encoded<EXPONENT, MANTISSA>(x, mode)); }
};
struct PAIR { HALF x, y; };
inline PAIR JOIN(make_, PAIR_NAME)(HALF x, HALF y) { return {x, y}; }

#define PAIRED_1(name, of) inline PAIR name(PAIR a) { return {of(a.x), of(a.y)}; }
#define PAIRED_2(name, of) inline PAIR name(PAIR a, PAIR b) { return {of(a.x, b.x), of(a.y, b.y)}; }
#define PAIRED_3(name, of) inline PAIR name(PAIR a, PAIR b, PAIR c) { return {of(a.x, b.x, c.x), of(a.y, b.y, c.y)}; }

// Arithmetic.
inline double wide(HALF a) { return on_cpu::decoded<EXPONENT, MANTISSA>(a.bits); }
#define ARITHMETIC_OF_HALVES(op, sign)                                                                                 \
    inline HALF __h##op(HALF a, HALF b) { return HALF(wide(a) sign wide(b)); }                                         \
    inline HALF __h##op##_rn(HALF a, HALF b) { return __h##op(a, b); }                                                 \
    inline HALF __h##op##_sat(HALF a, HALF b) { return HALF::saturated(wide(a) sign wide(b)); }                              \
    PAIRED_2(__h##op##2, __h##op)                                                                                      \
    PAIRED_2(__h##op##2_rn, __h##op)                                                                                   \
    PAIRED_2(__h##op##2_sat, __h##op##_sat)                                                                            \
    inline HALF operator sign(HALF a, HALF b) { return __h##op(a, b); }                                                \
    inline PAIR operator sign(PAIR a, PAIR b) { return __h##op##2(a, b); }                                             \
    inline HALF& operator sign##=(HALF& a, HALF b) { return a = __h##op(a, b); }
ARITHMETIC_OF_HALVES(add, +)
ARITHMETIC_OF_HALVES(sub, -)
ARITHMETIC_OF_HALVES(mul, *)
inline HALF __hdiv(HALF a, HALF b) { return HALF(wide(a) / wide(b)); }
inline HALF operator/(HALF a, HALF b) { return __hdiv(a, b); }
inline HALF __hneg(HALF a) { return HALF::of_bits(a.bits ^ 0x8000); }
inline HALF operator-(HALF a) { return __hneg(a); }
inline HALF __habs(HALF a) { return HALF::of_bits(a.bits & 0x7FFF); }
inline HALF __hfma(HALF a, HALF b, HALF c) { return HALF(fma(wide(a), wide(b), wide(c))); }
inline HALF __hfma_sat(HALF a, HALF b, HALF c) { return HALF::saturated(fma(wide(a), wide(b), wide(c))); }
inline HALF __hfma_relu(HALF a, HALF b, HALF c) {
    const double x = fma(wide(a), wide(b), wide(c));
    return HALF(x < 0 ? 0.0 : x);
}
PAIRED_2(__h2div, __hdiv)
PAIRED_1(__hneg2, __hneg)
PAIRED_1(__habs2, __habs)
PAIRED_3(__hfma2, __hfma)
PAIRED_3(__hfma2_sat, __hfma_sat)
PAIRED_3(__hfma2_relu, __hfma_relu)
inline PAIR __hcmadd(PAIR a, PAIR b, PAIR c) {  // complex
    return {__hfma(__hneg(a.y), b.y, __hfma(a.x, b.x, c.x)), __hfma(a.y, b.x, __hfma(a.x, b.y, c.y))};
}

// Comparisons; those with a u are true where an operand is a NaN.
inline bool __hisnan(HALF a) { return isnan(wide(a)); }
inline int __hisinf(HALF a) { return isinf(wide(a)) ? a.bits & 0x8000 ? -1 : 1 : 0; }
inline PAIR __hisnan2(PAIR a) { return {HALF(int(__hisnan(a.x))), HALF(int(__hisnan(a.y)))}; }
#define COMPARISON(name, test)                                                                                         \
    inline bool __h##name(HALF a, HALF b) { return test; }                                                             \
    inline PAIR __h##name##2(PAIR a, PAIR b) { return {HALF(int(__h##name(a.x, b.x))), HALF(int(__h##name(a.y, b.y)))}; } \
    inline bool __hb##name##2(PAIR a, PAIR b) { return __h##name(a.x, b.x) && __h##name(a.y, b.y); }                   \
    inline unsigned __h##name##2_mask(PAIR a, PAIR b) {                                                                \
        return (__h##name(a.x, b.x) ? 0xFFFFu : 0u) | (__h##name(a.y, b.y) ? 0xFFFF0000u : 0u);                        \
    }
#define COMPARISONS(name, sign, opposite)                                                                              \
    COMPARISON(name, wide(a) sign wide(b))                                                                             \
    COMPARISON(name##u, !(wide(a) opposite wide(b)))                                                                   \
    inline bool operator sign(HALF a, HALF b) { return wide(a) sign wide(b); }
COMPARISONS(eq, ==, !=)
COMPARISONS(lt, <, >=)
COMPARISONS(le, <=, >)
COMPARISONS(gt, >, <=)
COMPARISONS(ge, >=, <)
COMPARISON(ne, wide(a) < wide(b) || wide(a) > wide(b))
COMPARISON(neu, wide(a) != wide(b))
#undef COMPARISON
#undef COMPARISONS
inline bool operator!=(HALF a, HALF b) { return wide(a) != wide(b); }
#define EXTREME(name, sign)                                                                                            \
    inline HALF __h##name(HALF a, HALF b) { return __hisnan(a) ? b : __hisnan(b) || wide(a) sign wide(b) ? a : b; }    \
    inline HALF __h##name##_nan(HALF a, HALF b) { return __hisnan(a) ? a : __hisnan(b) ? b : __h##name(a, b); }        \
    PAIRED_2(__h##name##2, __h##name)                                                                                  \
    PAIRED_2(__h##name##2_nan, __h##name##_nan)
EXTREME(max, >)
EXTREME(min, <)
#undef EXTREME

// Functions.
inline double JOIN(reciprocal_, HALF)(double x) { return 1 / x; }
#define FUNCTION(name, of)                                                                                             \
    inline HALF h##name(HALF a) { return HALF(of(wide(a))); }                                                          \
    PAIRED_1(h2##name, h##name)
FUNCTION(ceil, ceil)
FUNCTION(cos, cos)
FUNCTION(exp, exp)
FUNCTION(exp10, exp10)
FUNCTION(exp2, exp2)
FUNCTION(floor, floor)
FUNCTION(log, log)
FUNCTION(log10, log10)
FUNCTION(log2, log2)
FUNCTION(rcp, JOIN(reciprocal_, HALF))
FUNCTION(rint, rint)
FUNCTION(rsqrt, rsqrt)
FUNCTION(sin, sin)
FUNCTION(sqrt, sqrt)
FUNCTION(tanh, tanh)
FUNCTION(tanh_approx, tanh)
FUNCTION(trunc, trunc)
#undef FUNCTION

// Conversions.
inline HALF JOIN(__float2, NAME)(float x) { return HALF(x); }
inline HALF JOIN(__double2, NAME)(double x) { return HALF(x); }
inline float JOIN3(__, NAME, 2float)(HALF a) { return a; }
inline short JOIN3(__, NAME, _as_short)(HALF a) { return static_cast<short>(a.bits); }
inline unsigned short JOIN3(__, NAME, _as_ushort)(HALF a) { return a.bits; }
inline HALF JOIN(__short_as_, NAME)(short bits) { return HALF::of_bits(static_cast<unsigned short>(bits)); }
inline HALF JOIN(__ushort_as_, NAME)(unsigned short bits) { return HALF::of_bits(bits); }
#define FROM_AND_TO(type, integer, r, mode)                                                                            \
    inline HALF JOIN(JOIN3(__, type, 2), JOIN3(NAME, _, r))(integer x) { return HALF::rounded(static_cast<double>(x), mode); } \
    inline integer JOIN(JOIN3(__, NAME, 2), JOIN3(type, _, r))(HALF a) { return on_cpu::to_integer<integer>(float(a), mode); }
#define ALL_INTEGERS(r, mode)                                                                                          \
    FROM_AND_TO(int, int, r, mode)                                                                                     \
    FROM_AND_TO(uint, unsigned, r, mode)                                                                               \
    FROM_AND_TO(short, short, r, mode)                                                                                 \
    FROM_AND_TO(ushort, unsigned short, r, mode)                                                                       \
    FROM_AND_TO(ll, long long, r, mode)                                                                                \
    FROM_AND_TO(ull, unsigned long long, r, mode)                                                                      \
    inline HALF JOIN(__float2, JOIN3(NAME, _, r))(float x) { return HALF::rounded(x, mode); }
ALL_INTEGERS(rn, FE_TONEAREST)
ALL_INTEGERS(rz, FE_TOWARDZERO)
ALL_INTEGERS(ru, FE_UPWARD)
ALL_INTEGERS(rd, FE_DOWNWARD)
#undef ALL_INTEGERS
#undef FROM_AND_TO
inline signed char JOIN3(__, NAME, 2char_rz)(HALF a) { return on_cpu::to_integer<signed char>(float(a), FE_TOWARDZERO); }
inline unsigned char JOIN3(__, NAME, 2uchar_rz)(HALF a) { return on_cpu::to_integer<unsigned char>(float(a), FE_TOWARDZERO); }

// Pairs.
inline PAIR JOIN3(__float2, NAME, 2_rn)(float x) { return {HALF(x), HALF(x)}; }
inline PAIR JOIN3(__floats2, NAME, 2_rn)(float x, float y) { return {HALF(x), HALF(y)}; }
inline PAIR JOIN3(__float22, NAME, 2_rn)(float2 v) { return {HALF(v.x), HALF(v.y)}; }
inline float2 JOIN3(__, NAME, 22float2)(PAIR a) { return {float(a.x), float(a.y)}; }
inline PAIR JOIN3(__halves2, NAME, 2)(HALF x, HALF y) { return {x, y}; }
inline PAIR JOIN(JOIN3(__, NAME, 2), JOIN(NAME, 2))(HALF x) { return {x, x}; }
inline float __low2float(PAIR a) { return a.x; }
inline float __high2float(PAIR a) { return a.y; }
inline HALF JOIN(__low2, NAME)(PAIR a) { return a.x; }
inline HALF JOIN(__high2, NAME)(PAIR a) { return a.y; }
inline PAIR JOIN3(__low2, NAME, 2)(PAIR a) { return {a.x, a.x}; }
inline PAIR JOIN3(__high2, NAME, 2)(PAIR a) { return {a.y, a.y}; }
inline PAIR JOIN3(__lows2, NAME, 2)(PAIR a, PAIR b) { return {a.x, b.x}; }
inline PAIR JOIN3(__highs2, NAME, 2)(PAIR a, PAIR b) { return {a.y, b.y}; }
inline PAIR __lowhigh2highlow(PAIR a) { return {a.y, a.x}; }

#undef ARITHMETIC_OF_HALVES
#undef PAIRED_1
#undef PAIRED_2
#undef PAIRED_3
#undef JOIN
#undef JOIN_
#undef JOIN3
#undef HALF
#undef PAIR
#undef PAIR_NAME
#undef NAME
#undef EXPONENT
#undef MANTISSA
