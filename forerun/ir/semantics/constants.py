"""Constants that a rewrite changed: values that a node certainly computes from."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from forerun.ir.kernel import Kernel, ScalarParameter
from forerun.ir.nodes import ConstantArgument, KernelNode
from forerun.ir.types import DType

__all__ = ["changed_constants", "stored"]


def changed_constants(kernel: Kernel, old: KernelNode, new: KernelNode) -> Iterator[str]:
    """What is certainly another value in a node of the same name, which launches the same kernel before and after.

    A scalar counts if a phase says that it uses it, and if the parameter holds other bits: ``1`` and ``1.0`` are other
    constants, but the same number for an ``f32``.
    """
    used = {name for phase in kernel.phases for name in phase.scalars}
    for parameter in kernel.scalar_parameters:
        values = old.argument(parameter.name), new.argument(parameter.name)
        if parameter.name in used and _differ(parameter, *values):
            shown = [argument.value for argument in values if isinstance(argument, ConstantArgument)]
            yield f"scalar '{parameter.name}' is {shown[1]}, not {shown[0]}"


def _differ(parameter: ScalarParameter, old: object, new: object) -> bool:
    if not isinstance(old, ConstantArgument) or not isinstance(new, ConstantArgument) or old == new:
        return False
    return stored(old.value, parameter.dtype) != stored(new.value, parameter.dtype)


def stored(value: int | float, dtype: DType) -> int | bytes:
    """The bits that a scalar parameter holds. Kernels are given floats of 16 bits as ``f32``.

    Example:
        >>> stored(1, DType.F32) == stored(1.0, DType.F32), stored(0.0, DType.F32) == stored(-0.0, DType.F32)
        (True, False)
    """
    if not dtype.is_float:
        return int(value) % (1 << 8 * dtype.itemsize)
    if dtype is DType.F64:
        return struct.pack("<d", value)
    try:
        return struct.pack("<f", value)
    except OverflowError:  # too large for an f32
        return struct.pack("<f", math.copysign(math.inf, value))
