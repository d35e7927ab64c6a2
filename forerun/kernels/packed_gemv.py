"""``y = w @ x`` for matrices of quantised blocks: simple and exact; what ``fuse-kernels`` puts in its place is fast."""

from __future__ import annotations

from forerun.ir.kernel import Kernel
from forerun.ir.launches import WHOLE_WARPS
from forerun.ir.nodes import Launch
from forerun.kernels import gemv
from forerun.kernels.packed_phases import load_phase
from forerun.kernels.packing import Q8_0, Packing
from forerun.kernels.shapes import cuda_kernel, matrix, typed_name

__all__ = ["KERNEL", "declare", "launch_for"]

_WARPS = 4


def launch_for(rows: int) -> Launch:
    """A warp a row, 4 warps a CTA."""
    return Launch((-(-rows // _WARPS), 1, 1), (32 * _WARPS, 1, 1))


def declare(packing: Packing = Q8_0) -> Kernel:
    """The kernel for a packing; activations and accumulation are f32.

    It has the phases of :mod:`~forerun.kernels.gemv`, but none of its weights are kept in registers: ``dot`` reads
    them, and widens each of them to f32.
    """
    parameters = f"{matrix('w', 'N', packing, packing.alignment)}, x: f32[K], y: f32[N]"
    load = load_phase(gemv.load_weights, packing, "w", asynchronous=False)
    name = typed_name("packed_gemv", packing)
    return cuda_kernel("packed_gemv", parameters, load, gemv.dot, gemv.store, launches=WHOLE_WARPS, name=name)


KERNEL = declare()
