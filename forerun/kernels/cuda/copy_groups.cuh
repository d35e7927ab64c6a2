// Copies of 16 bytes from global to shared memory that are awaited in groups, in the order in which they began (PTX ISA,
// cp.async.commit_group). Each thread awaits its own.
#pragma once

// Begins a copy, or fills with zeros without reading.
__device__ __forceinline__ void begin_copy16_at(unsigned address, const void* p, bool wanted) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(address), "l"(p), "r"(wanted ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void begin_copy16(void* shared, const void* p, bool wanted) {
    begin_copy16_at(static_cast<unsigned>(__cvta_generic_to_shared(shared)), p, wanted);
}
__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all groups of the thread but the `pending` latest ones.
template <int pending> __device__ __forceinline__ void await_copy_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
