"""The parameters of all kernel nodes, packed into one array, and the pointers to them that the driver wants."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from forerun.ir.graph import Graph
from forerun.ir.nodes import Argument, BufferArgument, ConditionalNode, ConstantArgument, KernelNode, ScalarLoad
from forerun.ir.types import DType
from forerun.runtime.cuda.codegen.unit import DELAY_SEED, TIMELINE, Slot, Unit
from forerun.runtime.dtypes import numpy_dtype
from forerun.support.diagnostics import InternalError

__all__ = ["Arguments", "ConditionParameters", "Words", "bits"]


def bits(dtype: DType, value: int | float) -> int:
    """A number's bytes, little-endian, as an integer.

    Example:
        >>> hex(bits(DType.F32, 1.0)), hex(bits(DType.I32, -1))
        ('0x3f800000', '0xffffffff')
    """
    return _bits_of(dtype)(value)


@cache
def _bits_of(dtype: DType) -> Callable[[int | float], int]:
    """What finds the bits of numbers of a type: as NumPy does, but for usual numbers ten times as fast."""
    numpy_type = numpy_dtype(dtype)

    def any_number(value: int | float) -> int:
        return int.from_bytes(np.array(value, numpy_type).tobytes(), "little")

    if not dtype.is_float:
        (least, greatest), mask = dtype.range, (1 << 8 * dtype.itemsize) - 1
        return lambda value: value & mask if type(value) is int and least <= value <= greatest else any_number(value)
    if dtype not in _LAYOUTS:
        return any_number
    pack, unpack = (struct.Struct(layout) for layout in _LAYOUTS[dtype])

    def number(value: int | float) -> int:
        try:
            found: int = unpack.unpack(pack.pack(value))[0]
        except OverflowError:  # an infinity for NumPy, and for the device
            return any_number(value)
        return found

    return number


_LAYOUTS = {DType.F32: ("<f", "<I"), DType.F64: ("<d", "<Q")}
"""How a number is packed, and its bits are unpacked."""


class Words:
    """Numbers of 64 bits that a kernel takes; ``address`` is that of pointers to them, as long as the object lives."""

    def __init__(self, *words: int) -> None:
        self._values = (ctypes.c_uint64 * len(words))(*words)
        base = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_uint64 * len(words))(*(base + 8 * i for i in range(len(words))))
        self.address = ctypes.addressof(self._pointers)

    def __len__(self) -> int:
        return len(self._values)

    def put(self, place: int, word: int) -> None:
        """Exchange one; the driver keeps the old one until it reads them again."""
        self._values[place] = word

    def put_all(self, words: list[int]) -> None:
        """Exchange all of them."""
        self._values[:] = [*words]


class ConditionParameters:
    """The parameters of one launch of :mod:`~forerun.runtime.cuda.codegen.condition`, and the address of pointers."""

    def __init__(self, handle: int, condition: int, dtype: DType, node: ConditionalNode) -> None:
        bodies = len(node.bodies) if node.kind == "switch" else 0
        self._values = (ctypes.c_uint64 * 5)(handle, condition, dtype.itemsize, dtype.is_signed, bodies)
        base = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_uint64 * 5)(*(base + 8 * i for i in range(5)))
        self.address = ctypes.addressof(self._pointers)


class Arguments:
    """One word of eight bytes a parameter, and the address of each word. The driver reads them when nodes are added.

    ``count`` is how many parameters all nodes have, ``seeds`` the address of the delays' seeds, one a node, and
    ``records`` that of each node's records of times, by its path.
    """

    def __init__(
        self,
        tables: Graph,
        addresses: Mapping[str, int],
        units: Sequence[Unit],
        count: int,
        seeds: int = 0,
        records: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._values = np.zeros(max(1, count), np.uint64)
        base = self._values.__array_interface__["data"][0]
        self._pointers = base + 8 * np.arange(max(1, count), dtype=np.uint64)
        self._first: int = self._pointers.__array_interface__["data"][0]
        self._words = self._values.data.cast("B")
        self._itemsizes = {name: buffer.dtype.itemsize for name, buffer in tables.buffers.items()}
        self._addresses = addresses
        self._next = 0
        self._seed = seeds
        self._records = records
        self._packers = [struct.Struct(f"{len(unit.slots)}Q").pack_into for unit in units]
        self._slots = [unit.slots for unit in units]
        self._converters = [_converters(unit.slots) for unit in units]

    def rewind(self) -> None:
        """Begin again at the first word, once the driver has read them."""
        self._next = 0

    def add(self, node: KernelNode, unit: int, path: str) -> int:
        """Pack the arguments of a node that launches the unit of that number; its path names it in the whole graph.

        Returns:
            The address of its array of pointers.
        """
        words = self.words(node, unit, path)
        position = 8 * self._next
        self._packers[unit](self._words, position, *words)
        self._next += len(words)
        return self._first + position

    def words(self, node: KernelNode, unit: int, path: str) -> list[int]:
        """The arguments of a node that launches a unit, as words."""
        converters = self._converters[unit]
        if converters is None:
            given = dict(node.arguments)
            return [self._word(path, slot, given.get(slot.parameter)) for slot in self._slots[unit]]
        # The common case: what is bound is in the order of the parameters (verifier rule N2).
        addresses = self._addresses
        return [
            addresses[argument.buffer] if convert is None else convert(argument.value)  # type: ignore[union-attr]
            for convert, (_, argument) in zip(converters, node.arguments, strict=True)
        ]

    def converters(self, unit: int) -> Sequence[Callable[[int | float], int] | None]:
        """What makes words of a unit's numbers, by argument; empty if its words are not one an argument."""
        return self._converters[unit] or ()

    def position(self, address: int) -> int:
        """The position among all words of the first argument of a node, by the address of its array of pointers."""
        return (address - self._first) // 8

    def word(self, position: int) -> int:
        """An argument."""
        return int(self._values[position])

    def put(self, position: int, word: int) -> None:
        """Exchange an argument; nodes that were added keep theirs until they are told."""
        self._values[position] = word

    def _word(self, path: str, slot: Slot, argument: Argument | None) -> int:
        if isinstance(argument, BufferArgument):
            return self._addresses[argument.buffer]
        if isinstance(argument, ScalarLoad):
            if slot.kind == "offset":
                return bits(slot.dtype, argument.offset)
            return self._addresses[argument.buffer] + argument.index * self._itemsizes[argument.buffer]
        if isinstance(argument, ConstantArgument):
            return bits(slot.dtype, argument.value)
        if slot.parameter == TIMELINE:
            return self._records[path]
        if slot.parameter != DELAY_SEED:
            raise InternalError(f"node '{path}' binds nothing to parameter '{slot.parameter}'")
        self._seed += 4
        return self._seed - 4


def _converters(slots: Sequence[Slot]) -> list[Callable[[int | float], int] | None] | None:
    """What makes words of constants, and ``None`` for addresses, by parameter; none if slots are no parameters."""
    if any(slot.kind not in ("pointer", "scalar") or slot.parameter in (DELAY_SEED, TIMELINE) for slot in slots):
        return None
    return [None if slot.kind == "pointer" else _bits_of(slot.dtype) for slot in slots]
