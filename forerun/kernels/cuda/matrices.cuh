// Matrices in shared memory for wgmma (PTX ISA, "Matrix descriptor"), in elements of 16 bits.
//
// They have panels of 64 columns: rows of 128 bytes, whose 16-byte pieces are swizzled: piece c of row r lies at place
// `c ^ r % 8`. Rows follow each other closely; panels begin at multiples of 1,024 bytes.
#pragma once

using Matrix = unsigned long long;

// The address, the distances of panels and of eight rows in bytes, and the swizzle of 128 bytes. How far panels are
// apart matters only where their rows are the depth of a product.
__device__ __forceinline__ Matrix matrix_at(unsigned address, int panel = 16) {
    constexpr Matrix eight_rows = 1024 >> 4, swizzle_128 = 1;
    return swizzle_128 << 62 | eight_rows << 32 | static_cast<Matrix>(panel >> 4) << 16 | (address & 0x3FFFF) >> 4;
}
__device__ __forceinline__ Matrix moved(Matrix matrix, int bytes) {
    return matrix >> 32 << 32 | (static_cast<unsigned>(matrix) + (bytes >> 4));
}
