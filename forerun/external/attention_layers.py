"""The arrays of a program's attention, bound to the buffers of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from forerun.captured.graph import MemoryRange
from forerun.external.attention_groups import LayerMemory
from forerun.ir.builder import GraphBuilder
from forerun.ir.types import BufferRole, DType
from forerun.runtime.cuda.memory.external import ExternalArray, is_device_array, read_array
from forerun.runtime.dtypes import numpy_dtype
from forerun.support.diagnostics import InvalidInput

if TYPE_CHECKING:
    from forerun.external.attention_arrays import AttentionLayer, RequestArrays

__all__ = ["BoundArrays", "BoundLayer", "bound_arrays"]

_NO_WAIT = -1
"""The value of DLPack's ``stream`` that requests no synchronization."""

_VALUES = ("q", "k_cache", "v_cache", "y")


@dataclass(frozen=True)
class BoundLayer:
    """One layer: the names of its buffers by parameter, and the shapes that all layers share."""

    names: dict[str, str]
    y_shape: tuple[int, ...]
    cache_shape: tuple[int, ...]


@dataclass(frozen=True)
class _Array:
    """An array of the caller, or a part of another array, given by that array's name and an offset in bytes."""

    given: Any
    read: ExternalArray
    whole: str = ""
    offset: int = 0

    @property
    def range(self) -> MemoryRange:
        """The bytes of the array."""
        return MemoryRange(self.read.address, int(np.prod(self.read.shape)) * self.read.dtype.itemsize)


@dataclass(frozen=True)
class BoundArrays:
    """All arrays; those with the same address and shape share one buffer.

    Attributes:
        arrays: The arrays, by the names of their buffers.
        layers: The layers.
        parts: For each group of requests, its buffers by field, and the number of requests.
        last_pages: Whether the lengths are those of last pages.
        first_row: The first row of the second group.
        dtype: The type of queries, keys, values and results.
        page_step: 2 if pages of keys and of values alternate in one array, else 1.
    """

    arrays: dict[str, _Array]
    layers: tuple[BoundLayer, ...]
    parts: tuple[tuple[dict[str, str], int], ...]
    last_pages: bool
    first_row: int
    dtype: DType
    page_step: int = 1

    @property
    def requests(self) -> int:
        """The number of requests in all groups."""
        return sum(count for _, count in self.parts)

    @property
    def pages(self) -> int:
        """The capacity of all page lists together, in pages."""
        return sum(self.arrays[names["pages"]].read.shape[0] for names, _ in self.parts)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """NumPy's type of the values."""
        return numpy_dtype(self.dtype)

    def memory(self) -> dict[str, Any]:
        """The program's arrays, by the names of their buffers."""
        return {name: array.given for name, array in self.arrays.items() if not array.whole}

    def spans(self) -> tuple[LayerMemory, ...]:
        """The memory of each layer's arrays."""
        return tuple(LayerMemory(*(self.arrays[layer.names[name]].range for name in _VALUES)) for layer in self.layers)

    def batch(self) -> tuple[MemoryRange, ...]:
        """The memory of the batch's arrays."""
        names = dict.fromkeys(name for names, _ in self.parts for name in names.values())
        return tuple(self.arrays[name].range for name in names)

    def declare(self, builder: GraphBuilder) -> None:
        """Declare the buffers of all arrays."""
        roles = {layer.names["q"]: BufferRole.INPUT for layer in self.layers}
        roles |= {layer.names["y"]: BufferRole.OUTPUT for layer in self.layers}
        for name, array in self.arrays.items():
            is_words = array.read.dtype == np.int32
            role = BufferRole.INPUT if is_words else roles.get(name, BufferRole.STATE)
            dtype, own = DType.I32 if is_words else self.dtype, array.whole or None
            builder.buffer(name, dtype, array.read.shape, role, allocation=own, offset=array.offset)

    def join_arguments(self) -> dict[str, Any]:
        """The arguments of ``join_requests`` that describe the groups of requests."""
        found: dict[str, Any] = {}
        first = self.parts[0][0]
        for group, (names, count) in zip("ab", (*self.parts, (first, 0)), strict=False):
            has_rows = "query_pointers" in names
            found |= {
                f"queries_{group}": names["query_pointers" if has_rows else "page_pointers"],
                f"pointers_{group}": names["page_pointers"], f"pages_{group}": names["pages"],
                f"lengths_{group}": names["lengths"], f"count_{group}": count, f"has_rows_{group}": int(has_rows),
            }  # fmt: skip
        page_size = self.layers[0].cache_shape[1]
        return {
            **found, "last_pages": int(self.last_pages), "page_size": page_size, "first_row_b": self.first_row,
            "most_pages": self.pages, "page_step": self.page_step,
        }  # fmt: skip


def bound_arrays(layers: Sequence[AttentionLayer], parts: Sequence[RequestArrays]) -> BoundArrays:
    """Check the arrays of all layers and requests, and name their buffers.

    Raises:
        InvalidInput: If an array is not on a GPU, or does not fit the others.
    """
    arrays: dict[str, _Array] = {}
    places: dict[tuple[int, tuple[int, ...]], str] = {}

    def bound(name: str, given: Any) -> str:
        read = _read(name, given)
        key = read.address, read.shape
        if key not in places:
            places[key] = name
            arrays[name] = _Array(given, read)
        return places[key]

    found: list[BoundLayer] = []
    for number, layer in enumerate(layers):
        names = {name: bound(f"{name}{number}", getattr(layer, name)) for name in ("q", "y")}
        if layer.v_cache is None:
            names |= _halves(bound(f"cache{number}", layer.k_cache), number, arrays)
        else:
            names |= {name: bound(f"{name}{number}", getattr(layer, name)) for name in ("k_cache", "v_cache")}
        q, k, v, y = (arrays[names[name]].read for name in _VALUES)
        if len(q.shape) != 3 or len(k.shape) != 4 or q.shape != y.shape or k.shape != v.shape:
            shapes = f"queries {q.shape}, keys {k.shape}, values {v.shape}, results {y.shape}"
            hint = "queries and results are [rows, heads, head size], caches [pages, page size, KV heads, head size]"
            raise InvalidInput(f"layer {number}: {shapes} do not fit together", hint=hint)
        if found and (y.shape, k.shape) != (found[0].y_shape, found[0].cache_shape):
            message = f"layer {number} has arrays of other shapes than layer 0: results {y.shape}, keys {k.shape}"
            hint = f"all layers need those of layer 0: results {found[0].y_shape}, keys {found[0].cache_shape}"
            raise InvalidInput(message, hint=hint)
        if len({q.dtype, k.dtype, v.dtype, y.dtype}) != 1:
            types = ", ".join(str(one.dtype) for one in (q, k, v, y))
            message = f"layer {number}: queries, keys, values and results are of several types: {types}"
            raise InvalidInput(message, hint="all four have to be bf16, or all f16")
        found.append(BoundLayer(names, y.shape, k.shape))
    dtypes = {numpy_dtype(one): one for one in (DType.BF16, DType.F16)}
    dtype = dtypes.get(arrays[found[0].names["q"]].read.dtype)
    if dtype is None:
        given = arrays[found[0].names["q"]].read.dtype
        hint = "only attention of bf16 or f16 can be made persistent"
        raise InvalidInput(f"persistent attention needs arrays of bf16 or f16, not {given}", hint=hint)
    steps = {1 if layer.v_cache is not None else 2 for layer in layers}
    if len(steps) > 1:
        message = "some layers have keys and values in one array, and some do not"
        raise InvalidInput(message, hint="pass v_cache for all layers, or for none")
    step = steps.pop()
    requests = [_part(bound, arrays, number, part) for number, part in enumerate(parts)]
    first_row = _first_row(parts, requests, found[0].y_shape[0])
    made = BoundArrays(arrays, tuple(found), tuple(requests), _last_pages(parts), first_row, dtype, step)
    _require_apart(made)
    return made


def _require_apart(arrays: BoundArrays) -> None:
    """Check that no results lie in what is read for them: in which order CTAs read and write is not known."""
    for number, layer in enumerate(arrays.spans()):
        values = zip(("queries", "keys", "values"), (layer.q, layer.k_cache, layer.v_cache), strict=True)
        for name, one in (*values, *(("the batch", array) for array in arrays.batch())):
            if layer.y.address < one.stop and one.address < layer.y.stop:
                hint = "results need an array of their own"
                raise InvalidInput(f"layer {number}: the results overlap {name}", hint=hint)


def _read(name: str, given: Any) -> ExternalArray:
    if not is_device_array(given):
        hint = "pass an array with DLPack or __cuda_array_interface__, such as a torch tensor on the GPU"
        raise InvalidInput(f"{name}: {type(given).__name__} is not an array on a GPU", hint=hint)
    return read_array(name, given, _NO_WAIT)


def _halves(whole: str, number: int, arrays: dict[str, _Array]) -> dict[str, str]:
    """Name the keys and the values of an array whose pages hold both: every second page, starting with 0 or 1."""
    read = arrays[whole].read
    if len(read.shape) != 5 or read.shape[1] != 2:
        hint = "its shape is [pages, 2, page size, KV heads, head size]; or pass the values as v_cache"
        raise InvalidInput(f"layer {number}: a cache of keys and values cannot be of shape {read.shape}", hint=hint)
    pages, _, *rest = read.shape
    size = int(np.prod(rest)) * read.dtype.itemsize
    names = {"k_cache": f"k_cache{number}", "v_cache": f"v_cache{number}"}
    for half, name in enumerate(names.values()):
        part = replace(read, address=read.address + half * size, shape=(2 * pages - 1, *rest))
        arrays[name] = _Array(None, part, whole, half * size)
    return names


def _part(bound: Any, arrays: dict[str, _Array], number: int, part: RequestArrays) -> tuple[dict[str, str], int]:
    fields = ["page_pointers", "pages", "lengths"] + ["query_pointers"] * (part.query_pointers is not None)
    names = {name: bound(f"{name}{number}", getattr(part, name)) for name in fields}
    read = {name: arrays[own].read for name, own in names.items()}
    if any(one.dtype != np.int32 or len(one.shape) != 1 for one in read.values()):
        given = ", ".join(f"{name} {one.dtype} {one.shape}" for name, one in read.items())
        message = f"the arrays of requests of group {number} are not all one-dimensional ones of int32: {given}"
        raise InvalidInput(message, hint="convert them to int32, and pass one-dimensional arrays")
    count = read["page_pointers"].shape[0] - 1
    short = read["lengths"].shape[0] < count or ("query_pointers" in read and read["query_pointers"].shape[0] <= count)
    if count < 1 or short:
        given = ", ".join(f"{name} {one.shape[0]}" for name, one in read.items())
        message = f"the arrays of group {number} have too few elements for {count} requests: {given}"
        hint = "page_pointers and query_pointers have one element more than there are requests, lengths one each"
        raise InvalidInput(message, hint=hint)
    return names, count


def _last_pages(parts: Sequence[RequestArrays]) -> bool:
    kinds = {part.last_pages for part in parts}
    if len(kinds) > 1:
        hint = "set last_pages for both groups, or for neither"
        raise InvalidInput("the lengths of both groups must be of one kind", hint=hint)
    return kinds.pop()


def _first_row(parts: Sequence[RequestArrays], found: Sequence[tuple[dict[str, str], int]], rows: int) -> int:
    """The first row of the second group: as given, or the number of requests if each in the first group has one row."""
    if len(parts) == 1:
        return 0
    row = parts[1].first_row
    if row is not None and (type(row) is not int or not 0 <= row <= rows):
        raise InvalidInput(f"the second group cannot begin at row {row!r}", hint=f"it is an integer from 0 to {rows}")
    if row is not None:
        return row
    if parts[0].query_pointers is not None:
        hint = "pass first_row=..., the row of the queries at which the second group begins"
        raise InvalidInput("where the rows of the second group begin is not known", hint=hint)
    return found[0][1]
