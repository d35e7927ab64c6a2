// Products by the tensor cores for four warps together (PTX ISA, wgmma): 64 rows times 64 or 128 columns, 16 elements
// deep, of bf16 or f16 into f32. They run on while the warps go on, and are awaited in groups.
//
// A lane of warp w has, of the result, rows `16 w + lane / 4` and 8 more, and of each eight columns a pair: as of
// mma.m16n8k16. Matrices in shared memory lie as matrices.cuh has them.
#pragma once

#include "bulk_copy.cuh"
#include "matrices.cuh"

// Orders what the warps have done to registers before the products that follow.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void end_product_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits for all groups but the `pending` latest ones.
template <int pending> __device__ __forceinline__ void await_product_groups() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// The compiler neither moves uses of these registers across, nor copies of them.
template <int count> __device__ __forceinline__ void hold(float (&x)[count]) {
#pragma unroll
    for (int i = 0; i < count; ++i) asm volatile("" : "+f"(x[i])::"memory");
}

#define WORDS_0_31                                                                                                    \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WORDS_32_63                                                                                                   \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                 \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SUMS_4(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_32(i) SUMS_16(i), SUMS_16(i + 16)
#define SHARED_64(kind)                                                                                               \
    asm volatile("{\n\t.reg .pred adds;\n\t.reg .b64 a, b;\n\tsetp.ne.b32 adds, %34, 0;\n\t"                           \
                 "mov.b64 a, {%32, %35};\n\tmov.b64 b, {%33, %35};\n\t"                                               \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." kind "." kind " {" WORDS_0_31                           \
                 "}, a, b, adds, 1, 1, 0, 0;\n\t}"                                                                 \
                 : SUMS_32(0)                                                                                          \
                 : "r"(a), "r"(b), "r"(static_cast<int>(adds)), "n"(upper_word))
#define SHARED_128(kind)                                                                                              \
    asm volatile("{\n\t.reg .pred adds;\n\t.reg .b64 a, b;\n\tsetp.ne.b32 adds, %66, 0;\n\t"                           \
                 "mov.b64 a, {%64, %67};\n\tmov.b64 b, {%65, %67};\n\t"                                               \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." kind "." kind " {" WORDS_0_31 ", " WORDS_32_63         \
                 "}, a, b, adds, 1, 1, 0, 0;\n\t}"                                                                 \
                 : SUMS_32(0), SUMS_32(32)                                                                             \
                 : "r"(a), "r"(b), "r"(static_cast<int>(adds)), "n"(upper_word))
#define REGISTERS_64(kind)                                                                                            \
    asm volatile("{\n\t.reg .b64 b;\n\tmov.b64 b, {%36, %37};\n\t"                                                      \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." kind "." kind " {" WORDS_0_31                           \
                 "}, {%32, %33, %34, %35}, b, 1, 1, 1, 1;\n\t}"                                                           \
                 : SUMS_32(0)                                                                                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(upper_word))
#define REGISTERS_128(kind)                                                                                           \
    asm volatile("{\n\t.reg .b64 b;\n\tmov.b64 b, {%68, %69};\n\t"                                                      \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." kind "." kind " {" WORDS_0_31 ", " WORDS_32_63         \
                 "}, {%64, %65, %66, %67}, b, 1, 1, 1, 1;\n\t}"                                                           \
                 : SUMS_32(0), SUMS_32(32)                                                                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(upper_word))

// c = a b, or c += a b. The 16 elements of a row of `a` are contiguous, and so are those of a column of `b`.
template <class T, int half_columns>
__device__ __forceinline__ void begin_product(
    float (&c)[half_columns], Matrix a, Matrix b, bool adds) {
    static_assert(half_columns == 32 || half_columns == 64, "64 or 128 columns");
    if constexpr (half_columns == 32 && is_same<T, bf16>) SHARED_64("bf16");
    else if constexpr (half_columns == 32) SHARED_64("f16");
    else if constexpr (is_same<T, bf16>) SHARED_128("bf16");
    else SHARED_128("f16");
}

// c += a b, with `a` in registers, as of mma.m16n8k16. The 64 columns of a panel of `b` are contiguous.
template <class T, int half_columns>
__device__ __forceinline__ void begin_product(float (&c)[half_columns], const unsigned (&a)[4], Matrix b) {
    static_assert(half_columns == 32 || half_columns == 64, "64 or 128 columns");
    if constexpr (half_columns == 32 && is_same<T, bf16>) REGISTERS_64("bf16");
    else if constexpr (half_columns == 32) REGISTERS_64("f16");
    else if constexpr (is_same<T, bf16>) REGISTERS_128("bf16");
    else REGISTERS_128("f16");
}

#undef WORDS_0_31
#undef WORDS_32_63
#undef SUMS_4
#undef SUMS_16
#undef SUMS_32
#undef SHARED_64
#undef SHARED_128
#undef REGISTERS_64
#undef REGISTERS_128

// Registers a thread of the warpgroup has from now on.
template <int count> __device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count> __device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

// Arrivals that several threads make (PTX ISA, mbarrier), or that come when a thread's copies of 16 bytes are there.
__device__ __forceinline__ void prepare_for(Arrival* arrival, int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(arrival)), "r"(count) : "memory");
}
__device__ __forceinline__ void arrive_at(Arrival* arrival) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(arrival)) : "memory");
}
__device__ __forceinline__ void arrive_with_copies(Arrival* arrival) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(arrival)) : "memory");
}
