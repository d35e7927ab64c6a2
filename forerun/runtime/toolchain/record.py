"""What the cache keeps of a unit: written, read, and looked at before it is used.

An entry of the cache is whole if its checksum says so. It can still be wrong: made by another version, or by a process
that went astray. Whatever does not hold together here is made again.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from forerun.runtime.toolchain.cache import Cache, key_of
from forerun.runtime.toolchain.elf import architecture, constant_bytes, section_sizes
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.instruction import Instruction, Listing
from forerun.runtime.toolchain.locate import require_disassembler
from forerun.runtime.toolchain.ptxas import resources
from forerun.runtime.toolchain.sass import disassemble, parse_listing
from forerun.runtime.toolchain.unit import Cubin, Source

__all__ = ["FORMAT", "Record", "record_of"]

FORMAT = "3"
"""Part of all keys: changes with what is kept."""

_Numbers = dict[str, int]

_ENTRY = re.compile(r"^\s*(?:\.(?:visible|weak)\s+)?\.entry\s+([\w$]+)", re.MULTILINE)
_NUMBERS = frozenset(item.name for item in fields(EntryFacts)) - {"instructions"}


@dataclass(frozen=True, slots=True)
class Record:
    """A compiled unit, without what the cache or the tools tell of it later; ``log`` holds warnings."""

    ptx: str
    code: bytes
    log: str
    entries: Mapping[str, _Numbers]

    @classmethod
    def read(cls, data: bytes, arch: str) -> Record | None:
        """What was written; ``None`` if it does not hold together as a cubin for an architecture."""
        try:
            found = json.loads(data)
            record = cls(
                _text(found["ptx"]),
                base64.b64decode(_text(found["code"]), validate=True),
                _text(found["log"]),
                {_text(name): _numbers(numbers) for name, numbers in found["entries"].items()},
            )
            return record if record._is_sound(arch) else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error):
            return None

    def written(self) -> bytes:
        """As the cache keeps it."""
        code = base64.b64encode(self.code).decode()
        return json.dumps({"ptx": self.ptx, "code": code, "log": self.log, "entries": self.entries}).encode()

    def cubin(self, source: Source, arch: str, cache: Cache) -> Cubin:
        """For users: its instructions are disassembled, or read from the cache, when somebody asks for them."""
        image = _Image(self.code, tuple(source.texts), cache)
        entries = {
            name: EntryFacts(**numbers, instructions=Listing(functools.partial(image.instructions, name)))
            for name, numbers in self.entries.items()
        }
        return Cubin(self.code, self.ptx, arch, self.log, entries)

    def _is_sound(self, arch: str) -> bool:
        """Whether PTX, image and facts are about the same entries."""
        sizes = section_sizes(self.code)
        return (
            f".target {arch}" in self.ptx
            and f"sm_{architecture(self.code)}" == arch.rstrip("af")
            and set(_ENTRY.findall(self.ptx)) == self.entries.keys()
            and all(sizes.get(f".text.{name}") for name in self.entries)
            and all(constant_bytes(sizes, name) == found["constant_bytes"] for name, found in self.entries.items())
        )


def record_of(ptx: str, code: bytes, warnings: str, log: str) -> Record:
    """What is kept of a unit; ``log`` is what ``ptxas --verbose`` said."""
    sizes = section_sizes(code)
    entries = {n: {**found, "constant_bytes": constant_bytes(sizes, n)} for n, found in resources(log).items()}
    return Record(ptx, code, warnings, entries)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _numbers(value: Mapping[str, object]) -> _Numbers:
    found = {name: number for name, number in value.items() if type(number) is int and number >= 0}
    if found.keys() != _NUMBERS or len(found) != len(value):
        raise ValueError("not the facts of an entry")
    return found


class _Image:
    """A cubin that is disassembled at most once, and not at all if the cache has its listing."""

    def __init__(self, code: bytes, names: Sequence[str], cache: Cache) -> None:
        self._code = code
        self._names = names
        self._cache = cache
        self._lock = threading.Lock()

    def instructions(self, entry: str) -> tuple[Instruction, ...]:
        with self._lock:
            return self._all[entry]

    @functools.cached_property
    def _all(self) -> Mapping[str, tuple[Instruction, ...]]:
        tool = require_disassembler()
        key = key_of("sass", FORMAT, self._code, tool.identity)
        kept = self._cache.get(key)
        found = None if kept is None else self._read(kept)
        if found is not None:
            return found
        text = disassemble(self._code, tool.path)
        self._cache.put(key, text.encode())
        return parse_listing(text, self._names)

    def _read(self, kept: bytes) -> Mapping[str, tuple[Instruction, ...]] | None:
        """What the cache has; ``None`` if it is not a listing of this image."""
        try:
            found = parse_listing(kept.decode(), self._names)
        except ValueError:
            return None
        prefix = ".text."
        expected = {name.removeprefix(prefix) for name in section_sizes(self._code) if name.startswith(prefix)}
        return found if found.keys() == expected and all(found.values()) else None
