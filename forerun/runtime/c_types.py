"""Element types in C++, for kernels of the device and of the host."""

from __future__ import annotations

from collections.abc import Mapping

from forerun.ir.types import DType

__all__ = ["C_TYPES"]

C_TYPES: Mapping[DType, str] = {
    DType.F64: "double",
    DType.F32: "float",
    DType.F16: "f16",
    DType.BF16: "bf16",
    DType.I64: "long long",
    DType.I32: "int",
    DType.I16: "short",
    DType.I8: "signed char",
    DType.U64: "unsigned long long",
    DType.U32: "unsigned",
    DType.U16: "unsigned short",
    DType.U8: "unsigned char",
}
"""The type of an element; ``bf16`` and ``f16`` are of device.cuh, and of host.h."""
