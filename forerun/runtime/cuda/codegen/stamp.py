"""The kernel of our own that notes the time of the GPU: before and after copies, and to compare it with the host's."""

from __future__ import annotations

__all__ = ["STAMP_ENTRY", "STAMP_SOURCE"]

STAMP_ENTRY = "forerun_stamp"

STAMP_SOURCE = """\
extern "C" __global__ void forerun_stamp(unsigned long long* place) {
    unsigned long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    *place = now;
}
"""
