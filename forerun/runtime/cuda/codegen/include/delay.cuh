// Pseudo-random delays between the steps of a body, so that tests meet orders of events that are rare otherwise.
#pragma once

__device__ __forceinline__ unsigned mixed(unsigned x) {  // MurmurHash3's finalizer
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}

// What a warp's delays depend on: the seed, which node it is (nodes have seeds at different addresses, or else other
// arguments), the CTA and the warp.
__device__ __forceinline__ unsigned delay_key(const unsigned* seed, const void* argument) {
    const unsigned node = mixed(static_cast<unsigned>(reinterpret_cast<size_t>(seed) >> 2)) ^
                          static_cast<unsigned>(reinterpret_cast<size_t>(argument));
    const unsigned place = static_cast<unsigned>(cta_in_grid() * 32 + thread_in_cta() / 32);
    return mixed(*static_cast<const volatile unsigned*>(seed) ^ mixed(node) ^ mixed(place + 1));
}

__device__ __forceinline__ unsigned long long cycles() {
    unsigned long long now;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(now)::"memory");
    return now;
}

// Spins: not at all at a quarter of the steps, mostly for up to a microsecond, at times for a few, rarely for twenty.
__device__ __noinline__ void delay(unsigned key, unsigned step) {
    const unsigned random = mixed(key + 0x9E3779B9u * (step + 1));
    const unsigned kind = random & 15;
    const unsigned limit = kind < 4 ? 1 : kind < 12 ? 2048 : kind < 15 ? 8192 : 32768;
    const unsigned long long start = cycles();
    while (cycles() - start < (random >> 4) % limit) {
    }
}
