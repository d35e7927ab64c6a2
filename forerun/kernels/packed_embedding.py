"""``y = table[token]``: one row of an embedding table of quantised blocks."""

from __future__ import annotations

from forerun.ir.kernel import Kernel
from forerun.kernels import embedding
from forerun.kernels.packed_phases import gather_phase
from forerun.kernels.packing import Q8_0, Packing
from forerun.kernels.shapes import cuda_kernel, matrix, typed_name

__all__ = ["KERNEL", "declare"]


def declare(packing: Packing = Q8_0) -> Kernel:
    """The kernel for a packing; activations are f32. The table is rows ``V`` of ``D`` weights."""
    parameters = f"{matrix('table', 'V', packing, packing.alignment)}, y: f32[D], token: scalar i32"
    name = typed_name("packed_embedding", packing)
    return cuda_kernel("packed_embedding", parameters, gather_phase(embedding.gather, packing), name=name)


KERNEL = declare()
