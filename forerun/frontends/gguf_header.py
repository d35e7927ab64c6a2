"""The header of a GGUF file: metadata and where each tensor lies, with every length checked before it is believed.

The format is that of ggml's docs/gguf.md, versions 2 and 3, little-endian. The ``gguf`` package's own reader makes an
array of each element (seconds for a vocabulary), and trusts what the header says; so the header is read here, and the
package supplies the table of types and the dequantisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from forerun.frontends.gguf_bytes import FileBytes
from forerun.support.diagnostics import InvalidInput

__all__ = ["Header", "TensorInfo", "Value", "read_header"]

Value: TypeAlias = "int | float | bool | str | list[str] | NDArray[np.generic]"

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_CODES = {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "?", 10: "u8", 11: "i8", 12: "f8"}
_SCALARS = {kind: np.dtype(code).newbyteorder("<") for kind, code in _CODES.items()}
_MAX_DIMENSIONS = 4

# Bounds on what is read, far beyond any model. A key has at most 65,535 bytes, and a tensor's name 64, says gguf.md.
MAX_TENSORS = 1 << 17
MAX_KEYS = 1 << 16
MAX_ELEMENTS = 1 << 24
MAX_TEXT = 1 << 24
MAX_KEY = (1 << 16) - 1
MAX_TENSOR_NAME = 1 << 10

_TOO_MANY = "no model needs that, so forerun does not read it"
_DAMAGED = "the file is damaged or was not completely downloaded; fetch it again"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies in the file, in bytes; extents are slowest first, the reverse of their order there."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata by key, and tensors by name, in the order of the file.

    Texts in the metadata that are not UTF-8 hold lone surrogates, one for each byte that does not fit (PEP 383).
    """

    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]


def read_header(data: FileBytes, path: Path) -> Header:
    """Read the header of an open file.

    Raises:
        InvalidInput: If this is not a GGUF file that can be read, with the key or tensor at which that showed.
    """
    cursor = _Cursor(data, path)
    _check_version(cursor)
    tensor_count = cursor.count("tensor count", 8 + 4 + 8 + 4 + 8, MAX_TENSORS)
    key_count = cursor.count("key count", 8 + 4 + 1, MAX_KEYS)
    metadata: dict[str, Value] = {}
    for number in range(key_count):
        key = cursor.name(f"name of key {number}", MAX_KEY)
        if key in metadata:
            raise cursor.error(f"key '{key}' occurs twice")
        metadata[key] = _value(cursor, key)
    raw = [_raw_tensor(cursor, number) for number in range(tensor_count)]
    alignment = _alignment(cursor, metadata)
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, shape, kind, offset in raw:
        if name in tensors:
            raise cursor.error(f"tensor '{name}' occurs twice")
        if offset % alignment:
            raise cursor.error(f"tensor '{name}' is not aligned to {alignment} bytes")
        tensors[name] = _located(cursor, name, shape, kind, start + offset)
    _refuse_overlaps(cursor, tensors.values())
    data.forget()
    return Header(metadata, tensors)


class _Cursor:
    """A position in the file that never moves past its end."""

    def __init__(self, data: FileBytes, path: Path) -> None:
        self.data = data
        self.path = path
        self.size = data.size
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
        return int.from_bytes(self.data.part(self.skip(4, what), 4), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.data.part(self.skip(8, what), 8), "little")

    def count(self, what: str, least: int, most: int) -> int:
        """A number of things, at most ``most``, of at least ``least`` bytes each: they must fit in the file's rest."""
        count = self.u64(what)
        if count * least > self.size - self.position:
            raise self.error(f"{what} {count} is more than the file of {self.size} bytes can hold")
        if count > most:
            raise self.error(f"{what} {count:,} is more than {most:,}", _TOO_MANY)
        return count

    def name(self, what: str, most: int) -> str:
        """A text that something is found by, so it must be UTF-8."""
        start, raw = self._raw_string(what, most)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{what} at byte {start} is not UTF-8") from error

    def string(self, what: str) -> str:
        """A text that may never be asked for. Bytes that are not UTF-8 become lone surrogates, as PEP 383 has it."""
        return self._raw_string(what, MAX_TEXT)[1].decode(errors="surrogateescape")

    def _raw_string(self, what: str, most: int) -> tuple[int, bytes]:
        size = self.u64(what)
        start = self.skip(size, what)
        if size > most:
            raise self.error(f"{what} has {size:,} bytes, more than {most:,}", _TOO_MANY)
        return start, self.data.part(start, size)

    def array(self, dtype: np.dtype[np.generic], count: int, what: str) -> NDArray[np.generic]:
        start = self.skip(count * dtype.itemsize, what)
        return np.frombuffer(self.data.part(start, self.position - start), dtype)


def _check_version(cursor: _Cursor) -> None:
    found = cursor.data.part(0, 4)
    if found != _MAGIC:
        raise cursor.error(f"not a GGUF file (it begins with {found!r}, not {_MAGIC!r})", "name a model file in GGUF")
    cursor.skip(4, "magic number")
    version = cursor.u32("version")
    if version not in (2, 3):
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in (2, 3):
            raise cursor.error("the file is big-endian", "convert it with gguf-convert-endian from the gguf package")
        raise cursor.error(
            f"GGUF version {version} is not known", "versions 2 and 3 can be read; convert the model again"
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
        return [cursor.string(f"string {i} of key '{key}'") for i in range(cursor.count(what, 8, MAX_ELEMENTS))]
    if element not in _SCALARS:
        raise cursor.error(f"{what} is an array of the unknown type {element}")
    return cursor.array(_SCALARS[element], cursor.count(what, _SCALARS[element].itemsize, MAX_ELEMENTS), what)


def _raw_tensor(cursor: _Cursor, number: int) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, type and offset, as the file has them."""
    name = cursor.name(f"name of tensor {number}", MAX_TENSOR_NAME)
    what = f"description of tensor '{name}'"
    dimensions = cursor.u32(what)
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise cursor.error(f"tensor '{name}' has {dimensions} dimensions")
    shape = tuple(cursor.u64(what) for _ in range(dimensions))[::-1]
    if 0 in shape:
        raise cursor.error(f"tensor '{name}' has an empty dimension")
    return name, shape, cursor.u32(what), cursor.u64(what)


def _alignment(cursor: _Cursor, metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.error("key 'general.alignment' is not a power of two")
    return alignment


def _located(cursor: _Cursor, name: str, shape: tuple[int, ...], number: int, begin: int) -> TensorInfo:
    try:
        kind = GGMLQuantizationType(number)
        block, block_bytes = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError) as error:
        hint = f"a newer gguf package may know it; or {_DAMAGED}"
        raise cursor.error(f"tensor '{name}' has the unknown type {number}", hint) from error
    if shape[-1] % block:
        raise cursor.error(f"tensor '{name}': rows of {shape[-1]} elements are not whole {kind.name} blocks of {block}")
    size = math.prod(shape) // block * block_bytes
    if begin + size > cursor.size:
        raise cursor.error(
            f"the file is truncated: tensor '{name}' ends at byte {begin + size}, the file has {cursor.size}"
        )
    return TensorInfo(name, shape, kind, begin, size)


def _refuse_overlaps(cursor: _Cursor, tensors: Iterable[TensorInfo]) -> None:
    """Each byte belongs to one tensor: so all of them together are at most as large as the file, before they expand."""
    for one, other in pairwise(sorted(tensors, key=lambda tensor: tensor.offset)):
        if other.offset < one.offset + one.size:
            raise cursor.error(
                f"tensors '{one.name}' and '{other.name}' overlap: '{other.name}' begins at byte {other.offset}, "
                f"'{one.name}' ends at byte {one.offset + one.size}"
            )
