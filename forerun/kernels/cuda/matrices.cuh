// Matrices in shared memory for wgmma (PTX ISA, "Matrix descriptor"), in elements of 16 bits.
//
// They have panels of 64 columns: rows of 128 bytes, whose 16-byte pieces are swizzled: piece c of row r lies at place
// `c ^ r % 8`. Rows follow each other closely; panels begin at multiples of 1,024 bytes.
#pragma once

// The lower word of a descriptor: the address, and how far panels are apart, in bytes; that matters only where the rows
// of the matrix are the depth of a product. The upper word has the distance of eight rows, and the swizzle of 128 bytes.
using Matrix = unsigned;
constexpr unsigned upper_word = 1u << 30 | 1024 >> 4;

__device__ __forceinline__ Matrix matrix_at(unsigned address, int panel = 16) {
    return static_cast<unsigned>(panel >> 4) << 16 | (address & 0x3FFFF) >> 4;
}
__device__ __forceinline__ Matrix moved(Matrix matrix, int bytes) { return matrix + (bytes >> 4); }
