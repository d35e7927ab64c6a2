"""GGUF model files: metadata with types, and tensors as f32 arrays."""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, Keys, dequantize
from numpy.typing import NDArray

from forerun.frontends.gguf_bytes import FileBytes
from forerun.frontends.gguf_header import TensorInfo, Value, read_header
from forerun.support.diagnostics import InvalidInput, closest, did_you_mean

__all__ = ["GgufFile", "TensorInfo"]

_ENCODING_HINT = "GGUF texts are UTF-8; convert the model again"


class GgufFile:
    """An open GGUF file: opening reads the header only, and each tensor is read when it is asked for.

    Raises:
        InvalidInput: If it cannot be read, with the key or tensor at which that showed.

    Attributes:
        path: The file.
        metadata: Value by key.
        tensors: Where each tensor lies, by name.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._bytes = FileBytes(self.path)
        header = read_header(self._bytes, self.path)
        self.metadata = header.metadata
        self.tensors = header.tensors

    def error(self, message: str, hint: str = "") -> InvalidInput:
        """An error about this file, to be raised."""
        return InvalidInput(f"{self.path}: {message}", hint=hint)

    # Metadata

    def integer(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """The integer under ``key``, which is at least ``least``; ``default`` if there is no such key."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._mistyped(key, "an integer", value)
        if value < least:
            raise self.error(f"key '{key}' is {value}; it must be at least {least}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """The positive, finite number under ``key``; ``default`` if there is no such key."""
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._mistyped(key, "a number", value)
        if not (math.isfinite(value) and value > 0):
            raise self.error(f"key '{key}' is {value}; it must be positive and finite")
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """The truth value under ``key``; ``default`` if there is no such key."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._mistyped(key, "true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """The string under ``key``; ``default`` if there is no such key."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._mistyped(key, "a string", value)
        if not _is_unicode(value):
            raise self.error(f"key '{key}' is not UTF-8", _ENCODING_HINT)
        return value

    def texts(self, key: str) -> list[str]:
        """The list of strings under ``key``."""
        value = self._get(key, None)
        if isinstance(value, np.ndarray) and not value.size:
            return []
        if not isinstance(value, list):
            raise self._mistyped(key, "a list of strings", value)
        if not _is_unicode("".join(value)):
            number = next(number for number, text in enumerate(value) if not _is_unicode(text))
            raise self.error(f"string {number} of key '{key}' is not UTF-8", _ENCODING_HINT)
        return value

    def numbers(self, key: str) -> list[float]:
        """The list of numbers under ``key``."""
        numbers: list[float] = self._array(key, "iuf", "a list of numbers").tolist()
        return numbers

    def integers(self, key: str) -> list[int]:
        """The list of integers under ``key``."""
        integers: list[int] = self._array(key, "iu", "a list of integers").tolist()
        return integers

    def same_for_all(self, key: str, count: int, default: int | None = None, *, least: int = 0) -> int:
        """The integer under ``key``, or the one that all entries of the list there are, one for each of ``count``."""
        if not isinstance(self.metadata.get(key), np.ndarray):
            return self.integer(key, default, least=least)
        values = self.integers(key)
        if len(values) != count:
            raise self.error(f"key '{key}' has {len(values)} entries for {count} layers")
        for number, value in enumerate(values):
            if value != values[0]:
                message = f"key '{key}' differs by layer: {values[0]} in layer 0, {value} in layer {number}"
                raise self.error(message, "only models whose layers are alike are supported")
        if values[0] < least:
            raise self.error(f"key '{key}' is {values[0]} in every layer; it must be at least {least}")
        return values[0]

    def _array(self, key: str, kinds: str, expected: str) -> NDArray[np.generic]:
        value = self._get(key, None)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            raise self._mistyped(key, expected, value)
        return value

    def _get(self, key: str, default: Value | None) -> Value:
        value = self.metadata.get(key, default)
        if value is None:
            raise self.error(f"key '{key}' is missing", self._spelled_like(key))
        return value

    def _spelled_like(self, key: str) -> str:
        """A hint: a key that can only be meant for ``key``. Keys that the format knows have a meaning of their own."""
        others = [name for name in self.metadata if _template(name) not in _known_keys()]
        match = closest(key, others)
        return f"the file has '{match}' instead" if match else "convert the model again with a current converter"

    def _mistyped(self, key: str, expected: str, value: Value) -> InvalidInput:
        return self.error(f"key '{key}' must be {expected}, not {str(value)[:40]!r}")

    # Tensors

    def require(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        """The tensor of that name, which must have that shape and a type that can be decoded."""
        info = self._info(name)
        if info.shape != shape:
            raise self.error(
                f"tensor '{name}' is {_extents(info.shape)}; the metadata asks for {_extents(shape)}",
                "the metadata and the tensors of this file do not belong together",
            )
        if not _can_decode(info.type):
            raise self.error(f"tensor '{name}': type {info.type.name} cannot be decoded", _decodable_hint())
        return info

    def blocks(self, name: str) -> NDArray[np.uint8]:
        """The rows of a tensor as the file has them, ``u8[rows, bytes]``, read from the file.

        Raises:
            InvalidInput: If there is no such tensor, or the file has become shorter since it was opened.
        """
        info = self._info(name)
        return np.frombuffer(self._bytes.read(info.offset, info.size), np.uint8).reshape(math.prod(info.shape[:-1]), -1)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor's values as f32, read from the file; they cannot be written to.

        Raises:
            InvalidInput: If there is no such tensor, or it cannot be decoded, or a value is not finite, or the file has
                become shorter since it was opened.
        """
        info = self._info(name)
        raw = np.frombuffer(self._bytes.read(info.offset, info.size), np.uint8).reshape(*info.shape[:-1], -1)
        with np.errstate(all="ignore"):
            try:
                values: NDArray[np.float32] = dequantize(raw, info.type).reshape(info.shape)
            except NotImplementedError as error:
                message = f"tensor '{name}': type {info.type.name} cannot be decoded"
                raise self.error(message, _decodable_hint()) from error
            finite = bool(np.isfinite(values.sum(dtype=np.float64)))
        if not finite:
            raise self._not_finite(name, values)
        values.flags.writeable = False
        return values

    def _info(self, name: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            raise self.error(f"tensor '{name}' is missing", did_you_mean(name, self.tensors))
        return info

    def _not_finite(self, name: str, values: NDArray[np.float32]) -> InvalidInput:
        wrong = ~np.isfinite(values)
        place = np.unravel_index(int(wrong.argmax()), wrong.shape)
        at = ", ".join(str(int(index)) for index in place)
        message = f"tensor '{name}' holds values that are not finite: {values[place]} at [{at}], {wrong.sum()} in all"
        return self.error(message, "no type would do; the file is damaged, fetch it again")


@functools.cache
def _known_keys() -> frozenset[str]:
    """The keys that the ``gguf`` package knows, with ``{arch}`` where the architecture's name stands."""
    found: set[str] = set()
    groups: list[type] = [Keys]
    while groups:
        for name, value in vars(groups.pop()).items():
            if isinstance(value, type):
                groups.append(value)
            elif isinstance(value, str) and not name.startswith("_"):
                found.add(value)
    return frozenset(found)


def _template(key: str) -> str:
    return re.sub(r"^(?!general\.|tokenizer\.|split\.|adapter\.|clip)[^.]+(?=\.)", "{arch}", key)


def _is_unicode(text: str) -> bool:
    """Whether a text holds no lone surrogates, which is what bytes that are not UTF-8 were read as."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _extents(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


@functools.cache
def _can_decode(kind: GGMLQuantizationType) -> bool:
    """Whether the gguf package decodes that type: tried on one block of zeros, as it has no list of them."""
    try:
        with np.errstate(all="ignore"):
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _decodable_hint() -> str:
    names = ", ".join(kind.name for kind in GGML_QUANT_SIZES if _can_decode(kind))
    return f"types that can be: {names}"
