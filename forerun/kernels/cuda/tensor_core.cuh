// Products of small matrices by a warp (PTX ISA, mma.m16n8k16 and ldmatrix), of bf16 or f16 into f32.
//
// A lane is number `l / 4` of eight rows, and `l % 4` of four pairs of columns. A matrix of eight rows of 16 bytes in
// shared memory is loaded with an address for each row.
#pragma once

// Four matrices: lane l gives the address of row l % 8 of matrix l / 8, and gets a pair of elements of each: those of
// its row, or transposed, of its column.
__device__ __forceinline__ void load_matrices_at(unsigned row, unsigned (&x)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(row)
                 : "memory");
}
__device__ __forceinline__ void load_matrices(const void* row, unsigned (&x)[4]) {
    load_matrices_at(static_cast<unsigned>(__cvta_generic_to_shared(row)), x);
}
__device__ __forceinline__ void load_matrices_transposed_at(unsigned row, unsigned (&x)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(row)
                 : "memory");
}

// A matrix of which each lane has a pair of elements of its row, transposed.
__device__ __forceinline__ unsigned transposed(unsigned pair) {
    unsigned found;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(found) : "r"(pair));
    return found;
}

// c += a b, with a of 16 rows and 16 columns, b of 16 rows and 8 columns.
template <class T>
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    if constexpr (is_same<T, bf16>) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

// Two numbers in a word, the first one in its lower half.
template <class T> __device__ __forceinline__ unsigned packed(float low, float high) {
    unsigned word;
    if constexpr (is_same<T, bf16>) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

// 2 to the power of x, to about 2 units in the last place; 0 for -infinity.
__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
