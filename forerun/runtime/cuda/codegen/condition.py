"""The kernel of our own that reads a conditional node's condition, and tells the driver.

``cudaGraphSetConditional`` is declared ``extern`` in cuda_device_runtime_api.h, and is in no library: ptxas knows it as
a system call (``EIATTR_SYSCALL_OFFSETS`` in the cubin), which the driver fills in when it loads the image. So neither
``-rdc`` nor cudadevrt is needed; tests/runtime/cuda/test_conditional.py holds this fast.
"""

from __future__ import annotations

__all__ = ["CONDITION_ENTRY", "CONDITION_SOURCE"]

CONDITION_ENTRY = "forerun_set_condition"

CONDITION_SOURCE = """\
// A conditional node asks for an unsigned number. Of a switch, `bodies` is how many it has, and what is out of their
// range becomes that number, so that none runs; for `if` and `while` it is 0, and any number but zero becomes 1.
// The condition is read past the L1 cache: a body of the loop wrote it.
extern "C" __device__ void cudaGraphSetConditional(unsigned long long handle, unsigned int value);

template <typename T> __device__ long long condition(const void* address) {
    return static_cast<long long>(*static_cast<const volatile T*>(address));
}

extern "C" __global__ void forerun_set_condition(
    unsigned long long handle, const void* address, int bytes, int is_signed, int bodies) {
    long long value = 0;
    switch (bytes) {
        case 1: value = is_signed ? condition<signed char>(address) : condition<unsigned char>(address); break;
        case 2: value = is_signed ? condition<short>(address) : condition<unsigned short>(address); break;
        case 4: value = is_signed ? condition<int>(address) : condition<unsigned int>(address); break;
        default: value = condition<long long>(address); break;
    }
    const bool in_range = value >= 0 && value < bodies;
    const unsigned int chosen = in_range ? static_cast<unsigned int>(value) : static_cast<unsigned int>(bodies);
    cudaGraphSetConditional(handle, bodies == 0 ? static_cast<unsigned int>(value != 0) : chosen);
}
"""
