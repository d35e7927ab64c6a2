"""The header of a GGUF file: metadata and where each tensor lies, with every length checked before it is believed.

The format is that of ggml's docs/gguf.md, versions 2 and 3, little-endian. The ``gguf`` package's own reader makes an
array of each element (seconds for a vocabulary), and trusts what the header says; so the header is read here, and the
package supplies the table of types and the dequantisation.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from forerun.ir.diagnostics import InvalidInput

__all__ = ["Header", "TensorInfo", "Value", "read_header"]

Value: TypeAlias = "int | float | bool | str | list[str] | NDArray[np.generic]"

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS: dict[int, np.dtype[np.generic]] = {
    kind: np.dtype(code)
    for kind, code in {
        0: "<u1",
        1: "<i1",
        2: "<u2",
        3: "<i2",
        4: "<u4",
        5: "<i4",
        6: "<f4",
        7: "?",
        10: "<u8",
        11: "<i8",
        12: "<f8",
    }.items()
}
_MAX_DIMENSIONS = 4
_DAMAGED = "the file is damaged or was not completely downloaded; fetch it again"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies.

    Attributes:
        name: The tensor's name.
        shape: Extents, slowest first (the reverse of the order in the file).
        type: How its elements are encoded.
        offset: First byte in the file.
        size: Bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata by key, and tensors by name, in the order of the file."""

    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]


def read_header(data: mmap.mmap, path: Path) -> Header:
    """Read the header of a mapped file.

    Raises:
        InvalidInput: If this is not a GGUF file that can be read, with the key or tensor at which that showed.
    """
    cursor = _Cursor(data, path)
    _check_version(cursor)
    tensor_count = cursor.count("tensor count", 8 + 4 + 8 + 4 + 8)
    key_count = cursor.count("key count", 8 + 4 + 1)
    metadata: dict[str, Value] = {}
    for number in range(key_count):
        key = cursor.string(f"name of key {number}")
        if key in metadata:
            raise cursor.error(f"key '{key}' occurs twice")
        metadata[key] = _value(cursor, key)
    raw = [_raw_tensor(cursor, number) for number in range(tensor_count)]
    alignment = _alignment(cursor, metadata)
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for tensor in raw:
        if tensor.name in tensors:
            raise cursor.error(f"tensor '{tensor.name}' occurs twice")
        tensors[tensor.name] = _located(cursor, tensor, start, alignment)
    return Header(metadata, tensors)


class _Cursor:
    """A position in the file that never moves past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data = data
        self.path = path
        self.size = len(data)
        self.position = 0

    def error(self, message: str, hint: str = _DAMAGED) -> InvalidInput:
        return InvalidInput(f"{self.path}: {message}", hint=hint)

    def skip(self, size: int, what: str) -> int:
        """Where ``size`` bytes begin that are now behind the cursor."""
        start = self.position
        if size > self.size - start:
            raise self.error(f"{what} would end at byte {start + size}, but the file has {self.size} bytes")
        self.position = start + size
        return start

    def u32(self, what: str) -> int:
        value: int = struct.unpack_from("<I", self.data, self.skip(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        value: int = struct.unpack_from("<Q", self.data, self.skip(8, what))[0]
        return value

    def count(self, what: str, least: int) -> int:
        """A number of things of at least ``least`` bytes each, which must fit in what is left of the file."""
        count = self.u64(what)
        if count * least > self.size - self.position:
            raise self.error(f"{what} {count} is more than the file of {self.size} bytes can hold")
        return count

    def string(self, what: str) -> str:
        size = self.u64(what)
        start = self.skip(size, what)
        try:
            return self.data[start : start + size].decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{what} at byte {start} is not UTF-8") from error

    def array(self, dtype: np.dtype[np.generic], count: int, what: str) -> NDArray[np.generic]:
        start = self.skip(count * dtype.itemsize, what)
        # Copied, so that the arrays do not keep the file mapped; they are never larger than the file.
        return np.frombuffer(self.data[start : self.position], dtype)


def _check_version(cursor: _Cursor) -> None:
    if cursor.data[:4] != _MAGIC:
        found = cursor.data[:4]
        raise cursor.error(f"not a GGUF file (it begins with {found!r}, not {_MAGIC!r})", "name a model file in GGUF")
    cursor.skip(4, "magic number")
    version = cursor.u32("version")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in (2, 3):
            raise cursor.error("the file is big-endian", "convert it with gguf-convert-endian from the gguf package")
        raise cursor.error(
            f"GGUF version {version} is not known", "versions 2 and 3 can be read; convert the model anew"
        )


def _value(cursor: _Cursor, key: str) -> Value:
    what = f"value of key '{key}'"
    kind = cursor.u32(what)
    if kind == _STRING:
        return cursor.string(what)
    if kind in _SCALARS:
        scalar: int | float | bool = cursor.array(_SCALARS[kind], 1, what)[0].item()
        return scalar
    if kind != _ARRAY:
        raise cursor.error(f"{what} has the unknown type {kind}")
    element = cursor.u32(what)
    if element == _STRING:
        return [cursor.string(f"string {i} of key '{key}'") for i in range(cursor.count(what, 8))]
    if element not in _SCALARS:
        raise cursor.error(f"{what} is an array of the unknown type {element}")
    return cursor.array(_SCALARS[element], cursor.count(what, _SCALARS[element].itemsize), what)


@dataclass(frozen=True, slots=True)
class _RawTensor:
    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


def _raw_tensor(cursor: _Cursor, number: int) -> _RawTensor:
    name = cursor.string(f"name of tensor {number}")
    what = f"description of tensor '{name}'"
    dimensions = cursor.u32(what)
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise cursor.error(f"tensor '{name}' has {dimensions} dimensions")
    shape = tuple(cursor.u64(what) for _ in range(dimensions))[::-1]
    if 0 in shape:
        raise cursor.error(f"tensor '{name}' has an empty dimension")
    return _RawTensor(name, shape, cursor.u32(what), cursor.u64(what))


def _alignment(cursor: _Cursor, metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.error("key 'general.alignment' is not a power of two")
    return alignment


def _located(cursor: _Cursor, tensor: _RawTensor, start: int, alignment: int) -> TensorInfo:
    try:
        kind = GGMLQuantizationType(tensor.type)
        block, block_bytes = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError) as error:
        hint = f"a newer gguf package may know it; or {_DAMAGED}"
        raise cursor.error(f"tensor '{tensor.name}' has the unknown type {tensor.type}", hint) from error
    if tensor.shape[-1] % block:
        raise cursor.error(
            f"tensor '{tensor.name}': rows of {tensor.shape[-1]} elements are not whole {kind.name} blocks of {block}"
        )
    count = _product(tensor.shape)
    size = count // block * block_bytes
    if tensor.offset % alignment:
        raise cursor.error(f"tensor '{tensor.name}' is not aligned to {alignment} bytes")
    begin = start + tensor.offset
    if begin + size > cursor.size:
        raise cursor.error(
            f"the file is truncated: tensor '{tensor.name}' ends at byte {begin + size}, the file has {cursor.size}"
        )
    return TensorInfo(tensor.name, tensor.shape, kind, begin, size)


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for extent in shape:
        result *= extent
    return result
