// CUDA's math functions on the CPU: single and double precision, their intrinsics, conversions and integers. The names
// are those of the CUDA Math API; runner.py says what is lacking. Values of functions that the GPU approximates (__expf,
// say) are those of the exact functions.
#pragma once

#include <fenv.h>
#include <string.h>

// What the C library has, for double and (with an f) for float. CUDA has both under the plain name, too.
#define LIBRARY_1(X)                                                                                                   \
    X(acos) X(acosh) X(asin) X(asinh) X(atan) X(atanh) X(cbrt) X(ceil) X(cos) X(cosh) X(erf) X(erfc) X(exp) X(exp10)   \
    X(exp2) X(expm1) X(fabs) X(floor) X(lgamma) X(log) X(log10) X(log1p) X(log2) X(logb) X(nearbyint) X(rint) X(round) \
    X(sin) X(sinh) X(sqrt) X(tan) X(tanh) X(tgamma) X(trunc)
#define LIBRARY_2(X)                                                                                                   \
    X(atan2) X(copysign) X(fdim) X(fmax) X(fmin) X(fmod) X(hypot) X(nextafter) X(pow) X(remainder)
#define DECLARE_1(name)                                                                                                \
    extern "C" double name(double) noexcept;                                                                           \
    extern "C" float name##f(float) noexcept;                                                                          \
    inline float name(float x) { return name##f(x); }
#define DECLARE_2(name)                                                                                                \
    extern "C" double name(double, double) noexcept;                                                                   \
    extern "C" float name##f(float, float) noexcept;                                                                   \
    inline float name(float x, float y) { return name##f(x, y); }
LIBRARY_1(DECLARE_1)
LIBRARY_2(DECLARE_2)

// The same for functions that the C library has not: their float versions are those of double, rounded.
#define AS_FLOAT_1(name)                                                                                               \
    inline float name##f(float x) { return static_cast<float>(name(static_cast<double>(x))); }                         \
    inline float name(float x) { return name##f(x); }

#define DECLARE_OTHERS(T, f)                                                                                           \
    extern "C" T fma##f(T, T, T) noexcept;                                                                             \
    extern "C" T frexp##f(T, int*) noexcept;                                                                           \
    extern "C" int ilogb##f(T) noexcept;                                                                               \
    extern "C" T j0##f(T) noexcept;                                                                                    \
    extern "C" T j1##f(T) noexcept;                                                                                    \
    extern "C" T jn##f(int, T) noexcept;                                                                               \
    extern "C" T y0##f(T) noexcept;                                                                                    \
    extern "C" T y1##f(T) noexcept;                                                                                    \
    extern "C" T yn##f(int, T) noexcept;                                                                               \
    extern "C" T ldexp##f(T, int) noexcept;                                                                            \
    extern "C" long lrint##f(T) noexcept;                                                                              \
    extern "C" long lround##f(T) noexcept;                                                                             \
    extern "C" long long llrint##f(T) noexcept;                                                                        \
    extern "C" long long llround##f(T) noexcept;                                                                       \
    extern "C" T modf##f(T, T*) noexcept;                                                                              \
    extern "C" T nan##f(const char*) noexcept;                                                                         \
    extern "C" T remquo##f(T, T, int*) noexcept;                                                                       \
    extern "C" T scalbn##f(T, int) noexcept;                                                                           \
    extern "C" T scalbln##f(T, long) noexcept;                                                                         \
    extern "C" void sincos##f(T, T*, T*) noexcept;                                                                     \
    inline bool isfinite(T x) { return __builtin_isfinite(x); }                                                        \
    inline bool isinf(T x) { return __builtin_isinf(x); }                                                              \
    inline bool isnan(T x) { return __builtin_isnan(x); }                                                              \
    inline bool signbit(T x) { return __builtin_signbit(x); }
DECLARE_OTHERS(double, )
DECLARE_OTHERS(float, f)
inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
inline float frexp(float x, int* e) { return frexpf(x, e); }
inline float ldexp(float x, int e) { return ldexpf(x, e); }
inline float modf(float x, float* whole) { return modff(x, whole); }
inline float remquo(float x, float y, int* q) { return remquof(x, y, q); }
inline float scalbn(float x, int e) { return scalbnf(x, e); }
inline float scalbln(float x, long e) { return scalblnf(x, e); }
inline int ilogb(float x) { return ilogbf(x); }
inline long lrint(float x) { return lrintf(x); }
inline long lround(float x) { return lroundf(x); }
inline long long llrint(float x) { return llrintf(x); }
inline long long llround(float x) { return llroundf(x); }

inline double sinpi(double x) { return sin(3.14159265358979323846 * (x - 2 * rint(x / 2))); }
inline double cospi(double x) { return cos(3.14159265358979323846 * (x - 2 * rint(x / 2))); }
inline double rcbrt(double x) { return 1 / cbrt(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }

// exp(x^2) erfc(x): as it stands, or by the asymptotic series where that underflows (DLMF 7.12.1).
inline double erfcx(double x) {
    if (x < 20) return exp(x * x) * erfc(x);
    double sum = 1, term = 1;
    for (int k = 1; k < 8; ++k) sum += term *= -(2 * k - 1) / (2 * x * x);
    return sum / (x * 1.77245385090551602730);
}

// Newton's method on erfc, from Giles' approximation (GPU Computing Gems, "Approximating the erfinv function").
inline double erfcinv(double y) {
    if (!(y > 0 && y < 2)) return y == 0 ? __builtin_inf() : y == 2 ? -__builtin_inf() : __builtin_nan("");
    const double w = -log(y * (2 - y));
    double x = w < 5 ? (((-0.00417768164 * (w - 2.5) + 0.246640727) * (w - 2.5)) + 1.50140941) * (1 - y)
                     : copysign(sqrt(w) - 0.5 * log(w * 3.14159265358979) / (2 * sqrt(w)), 1 - y);
    for (int i = 0; i < 50; ++i) {
        const double step = (erfc(x) - y) * 0.88622692545275801365 * exp(x * x);
        x += step / (1 + x * step);  // Halley
        if (fabs(step) <= 1e-16 * fabs(x)) break;
    }
    return x;
}
inline double erfinv(double y) {
    if (fabs(y) > 0.5) return y > 0 ? erfcinv(1 - y) : -erfcinv(1 + y);
    double x = 0.88622692545275801365 * y;
    for (int i = 0; i < 50; ++i) {
        const double step = (erf(x) - y) * 0.88622692545275801365 * exp(x * x);
        x -= step / (1 + x * step);
        if (fabs(step) <= 1e-16 * fabs(x)) break;
    }
    return x;
}
inline double normcdfinv(double p) { return -1.41421356237309504880 * erfcinv(2 * p); }

namespace on_cpu {
// Modified Bessel functions by their series (DLMF 10.25.2), all of whose terms are positive.
inline double bessel_i(double order, double x) {
    double term = order == 0 ? 1 : x / 2, sum = term;
    for (double k = 1; fabs(term) > 1e-17 * fabs(sum); ++k) sum += term *= x / 2 * (x / 2) / (k * (k + order));
    return sum;
}
}  // namespace on_cpu
inline double cyl_bessel_i0(double x) { return on_cpu::bessel_i(0, x); }
inline double cyl_bessel_i1(double x) { return on_cpu::bessel_i(1, x); }

#define WITHOUT_LIBRARY(X)                                                                                             \
    X(sinpi) X(cospi) X(rcbrt) X(rsqrt) X(normcdf) X(normcdfinv) X(erfcx) X(erfcinv) X(erfinv) X(cyl_bessel_i0)        \
    X(cyl_bessel_i1)
WITHOUT_LIBRARY(AS_FLOAT_1)

#define NORMS(T, f)                                                                                                    \
    inline void sincospi##f(T x, T* sine, T* cosine) { *sine = sinpi(x), *cosine = cospi(x); }                         \
    inline T norm3d##f(T a, T b, T c) { return hypot(hypot(a, b), c); }                                                \
    inline T norm4d##f(T a, T b, T c, T d) { return hypot(hypot(a, b), hypot(c, d)); }                                 \
    inline T norm##f(int count, const T* p) {                                                                          \
        T found = 0;                                                                                                   \
        for (int i = 0; i < count; ++i) found = hypot(found, p[i]);                                                    \
        return found;                                                                                                  \
    }                                                                                                                  \
    inline T rhypot##f(T a, T b) { return 1 / hypot(a, b); }                                                           \
    inline T rnorm3d##f(T a, T b, T c) { return 1 / norm3d##f(a, b, c); }                                              \
    inline T rnorm4d##f(T a, T b, T c, T d) { return 1 / norm4d##f(a, b, c, d); }                                      \
    inline T rnorm##f(int count, const T* p) { return 1 / norm##f(count, p); }
NORMS(double, )
NORMS(float, f)
inline float fdividef(float x, float y) { return x / y; }
inline float fdivide(float x, float y) { return x / y; }

// Intrinsics that the GPU approximates.
inline float __cosf(float x) { return cosf(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline void __sincosf(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1.0f : 0.0f; }
inline float __frsqrt_rn(float x) { return static_cast<float>(1 / sqrt(static_cast<double>(x))); }

// Intrinsics that round in a given direction. Operands are volatile, so that nothing moves out of the mode.
namespace on_cpu {
template <class F> auto rounded(int mode, F compute) {
    const int before = fegetround();
    fesetround(mode);
    volatile auto found = compute();
    fesetround(before);
    return found;
}
template <class I, class T> I to_integer(T x, int mode) {
    if (x != x) return sizeof(T) == 8 || sizeof(I) == 8 ? static_cast<I>(1ull << (8 * sizeof(I) - 1)) : I(0);
    const T whole = mode == FE_UPWARD ? ceil(x) : mode == FE_DOWNWARD ? floor(x) : mode == FE_TOWARDZERO ? trunc(x) : rint(x);
    constexpr bool is_signed = I(-1) < I(0);
    constexpr int bits = 8 * sizeof(I) - is_signed;
    const T limit = ldexp(T(1), bits);
    const I most = static_cast<I>(is_signed ? ~0ull >> (65 - 8 * sizeof(I)) : ~0ull >> (64 - 8 * sizeof(I)));
    if (whole >= limit) return most;
    if (whole < (is_signed ? -limit : T(0))) return static_cast<I>(is_signed ? most + 1ull : 0ull);
    return static_cast<I>(whole);
}
}  // namespace on_cpu
#define ROUNDED(T, name, parameters, copies, expression)                                                               \
    inline T name parameters { copies return on_cpu::rounded(MODE, [&] { return static_cast<T>(expression); }); }
#define ONE(T) volatile T a = x;
#define TWO(T) volatile T a = x, b = y;
#define THREE(T) volatile T a = x, b = y, c = z;
#define ARITHMETIC(r, T, add, sub, mul, div, rcp, root, multiply_add, fused)                                           \
    ROUNDED(T, add##_##r, (T x, T y), TWO(T), a + b)                                                                   \
    ROUNDED(T, sub##_##r, (T x, T y), TWO(T), a - b)                                                                   \
    ROUNDED(T, mul##_##r, (T x, T y), TWO(T), a* b)                                                                    \
    ROUNDED(T, div##_##r, (T x, T y), TWO(T), a / b)                                                                   \
    ROUNDED(T, rcp##_##r, (T x), ONE(T), 1 / a)                                                                        \
    ROUNDED(T, root##_##r, (T x), ONE(T), sqrt(T(a)))                                                                  \
    ROUNDED(T, multiply_add##_##r, (T x, T y, T z), THREE(T), fused(a, b, c))
#define FROM_INTEGERS(r, T, name)                                                                                      \
    ROUNDED(T, __int2##name##_##r, (int x), ONE(int), a)                                                               \
    ROUNDED(T, __uint2##name##_##r, (unsigned x), ONE(unsigned), a)                                                    \
    ROUNDED(T, __ll2##name##_##r, (long long x), ONE(long long), a)                                                    \
    ROUNDED(T, __ull2##name##_##r, (unsigned long long x), ONE(unsigned long long), a)
#define TO_INTEGERS(r, T, name)                                                                                        \
    inline int __##name##2int_##r(T x) { return on_cpu::to_integer<int>(x, MODE); }                                    \
    inline unsigned __##name##2uint_##r(T x) { return on_cpu::to_integer<unsigned>(x, MODE); }                         \
    inline long long __##name##2ll_##r(T x) { return on_cpu::to_integer<long long>(x, MODE); }                         \
    inline unsigned long long __##name##2ull_##r(T x) { return on_cpu::to_integer<unsigned long long>(x, MODE); }
#define IN_MODE(r)                                                                                                     \
    ARITHMETIC(r, float, __fadd, __fsub, __fmul, __fdiv, __frcp, __fsqrt, __fmaf, fmaf)                                \
    ARITHMETIC(r, double, __dadd, __dsub, __dmul, __ddiv, __drcp, __dsqrt, __fma, fma)                                 \
    FROM_INTEGERS(r, float, float)                                                                                     \
    FROM_INTEGERS(r, double, double)                                                                                   \
    TO_INTEGERS(r, float, float)                                                                                       \
    TO_INTEGERS(r, double, double)                                                                                     \
    ROUNDED(float, __double2float_##r, (double x), ONE(double), a)                                                     \
    inline float __fmaf_ieee_##r(float x, float y, float z) { return __fmaf_##r(x, y, z); }
#define MODE FE_TONEAREST
IN_MODE(rn)
#undef MODE
#define MODE FE_TOWARDZERO
IN_MODE(rz)
#undef MODE
#define MODE FE_UPWARD
IN_MODE(ru)
#undef MODE
#define MODE FE_DOWNWARD
IN_MODE(rd)
#undef MODE

// Bits.
namespace on_cpu {
template <class To, class From> To bits_as(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To found;
    memcpy(&found, &x, sizeof(To));
    return found;
}
}  // namespace on_cpu
inline float __uint_as_float(unsigned bits) { return on_cpu::bits_as<float>(bits); }
inline float __int_as_float(int bits) { return on_cpu::bits_as<float>(bits); }
inline unsigned __float_as_uint(float x) { return on_cpu::bits_as<unsigned>(x); }
inline int __float_as_int(float x) { return on_cpu::bits_as<int>(x); }
inline long long __double_as_longlong(double x) { return on_cpu::bits_as<long long>(x); }
inline double __longlong_as_double(long long bits) { return on_cpu::bits_as<double>(bits); }
inline int __double2loint(double x) { return static_cast<int>(__double_as_longlong(x)); }
inline int __double2hiint(double x) { return static_cast<int>(__double_as_longlong(x) >> 32); }
inline double __hiloint2double(int high, int low) {
    return __longlong_as_double(static_cast<long long>(static_cast<unsigned long long>(high) << 32 | unsigned(low)));
}

// Integers.
template <class T> T max(T a, T b) { return a > b ? a : b; }
template <class T> T min(T a, T b) { return a < b ? a : b; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline unsigned umax(unsigned a, unsigned b) { return max(a, b); }
inline unsigned umin(unsigned a, unsigned b) { return min(a, b); }
inline long long llmax(long long a, long long b) { return max(a, b); }
inline long long llmin(long long a, long long b) { return min(a, b); }
inline unsigned long long ullmax(unsigned long long a, unsigned long long b) { return max(a, b); }
inline unsigned long long ullmin(unsigned long long a, unsigned long long b) { return min(a, b); }
extern "C" int abs(int) noexcept;
extern "C" long labs(long) noexcept;
extern "C" long long llabs(long long) noexcept;
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }

inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline unsigned long long __brevll(unsigned long long x) {
    unsigned long long found = 0;
    for (int i = 0; i < 64; ++i) found |= (x >> i & 1) << (63 - i);
    return found;
}
inline unsigned __brev(unsigned x) { return static_cast<unsigned>(__brevll(x) >> 32); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const unsigned long long both = static_cast<unsigned long long>(y) << 32 | x;
    unsigned found = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned choice = selector >> 4 * i & 15;
        unsigned byte = both >> 8 * (choice & 7) & 255;
        if (choice & 8) byte = byte & 128 ? 255 : 0;
        found |= byte << 8 * i;
    }
    return found;
}
inline int __mulhi(int x, int y) { return static_cast<int>(static_cast<long long>(x) * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned long long>(x) * y >> 32; }
inline long long __mul64hi(long long x, long long y) { return static_cast<long long>(static_cast<__int128>(x) * y >> 64); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
inline int __mul24(int x, int y) { return static_cast<int>(static_cast<long long>(x << 8 >> 8) * (y << 8 >> 8)); }
inline unsigned __umul24(unsigned x, unsigned y) { return (x & 0xFFFFFF) * (y & 0xFFFFFF); }
inline int __hadd(int x, int y) { return static_cast<int>((static_cast<long long>(x) + y) >> 1); }
inline int __rhadd(int x, int y) { return static_cast<int>((static_cast<long long>(x) + y + 1) >> 1); }
inline unsigned __uhadd(unsigned x, unsigned y) { return (static_cast<unsigned long long>(x) + y) >> 1; }
inline unsigned __urhadd(unsigned x, unsigned y) { return (static_cast<unsigned long long>(x) + y + 1) >> 1; }
inline unsigned __sad(int x, int y, unsigned z) { return z + static_cast<unsigned>(llabs(static_cast<long long>(x) - y)); }
inline unsigned __usad(unsigned x, unsigned y, unsigned z) { return z + (x > y ? x - y : y - x); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned shift) {
    return shift >= 32 ? low : __funnelshift_l(low, high, shift);
}
inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned shift) {
    return shift >= 32 ? high : __funnelshift_r(low, high, shift);
}
inline int __dp4a(int x, int y, int z) {
    for (int i = 0; i < 4; ++i) z += static_cast<signed char>(x >> 8 * i) * static_cast<signed char>(y >> 8 * i);
    return z;
}
inline unsigned __dp4a(unsigned x, unsigned y, unsigned z) {
    for (int i = 0; i < 4; ++i) z += (x >> 8 * i & 255) * (y >> 8 * i & 255);
    return z;
}
