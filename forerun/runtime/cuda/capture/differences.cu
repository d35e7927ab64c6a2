// How many bytes of two pieces of memory differ, added to a count.
extern "C" __global__ void count_differences(const unsigned char* first, const unsigned char* second,
                                             unsigned long long size, unsigned long long* count) {
    const unsigned long long start = blockIdx.x * static_cast<unsigned long long>(blockDim.x) + threadIdx.x;
    const unsigned long long threads = static_cast<unsigned long long>(gridDim.x) * blockDim.x;
    const bool is_aligned = ((reinterpret_cast<size_t>(first) | reinterpret_cast<size_t>(second)) & 15) == 0;
    const unsigned long long words = is_aligned ? size / 16 : 0;
    unsigned long long found = 0;
    for (unsigned long long i = start; i < words; i += threads) {
        const uint4 a = reinterpret_cast<const uint4*>(first)[i], b = reinterpret_cast<const uint4*>(second)[i];
        if ((a.x ^ b.x) | (a.y ^ b.y) | (a.z ^ b.z) | (a.w ^ b.w))
            for (int byte = 0; byte < 16; ++byte) found += first[16 * i + byte] != second[16 * i + byte];
    }
    for (unsigned long long i = 16 * words + start; i < size; i += threads) found += first[i] != second[i];
    if (found) atomicAdd(count, found);
}
