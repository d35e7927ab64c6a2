"""What machine code that somebody else compiled does to memory, as far as it concerns dependencies; kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from forerun.runtime.cache_folder import cache_folder
from forerun.runtime.toolchain.cache import cache_at, key_of
from forerun.runtime.toolchain.facts import EntryFacts
from forerun.runtime.toolchain.image import facts_of_image, parameters_at
from forerun.runtime.toolchain.locate import require_disassembler
from forerun.runtime.toolchain.sass_cfg import flow_graph
from forerun.runtime.toolchain.sass_reach import Reach, linked_of, reach_of

__all__ = ["ImageAccesses", "accesses_of_image"]

_SOURCES = (
    "runtime/toolchain/elf.py",
    "runtime/toolchain/facts.py",
    "runtime/toolchain/image.py",
    "runtime/toolchain/image_accesses.py",
    "runtime/toolchain/includes.py",
    "runtime/toolchain/instruction.py",
    "runtime/toolchain/sass.py",
    "runtime/toolchain/sass_cfg.py",
    "runtime/toolchain/sass_reach.py",
    "runtime/toolchain/sass_steps.py",
    "runtime/toolchain/unit.py",
    "support/cfg.py",
)
"""What the result depends on, besides the image: what was kept is not used by another version of these."""


@dataclass(frozen=True, slots=True)
class ImageAccesses:
    """What one kernel does.

    Attributes:
        triggers: Whether it contains the trigger.
        waits_first: Whether every thread waits before it accesses global memory, and before it ends.
        may_poll: Whether a loop of it reads memory in a way in which one waits for others.
        reach: Through which of its parameters it accesses global memory.
    """

    triggers: bool
    waits_first: bool
    may_poll: bool
    reach: Reach


def accesses_of_image(
    code: bytes, digest: str, entry: str, pointers: frozenset[int] | None, zeros: frozenset[int]
) -> ImageAccesses | None:
    """What a kernel of a cubin does. ``None`` if it has no such kernel.

    It is kept in the user's cache folder: to look at the code of a library's kernels takes seconds.

    Args:
        code: The cubin.
        digest: By which it is told apart, of at least 128 bits.
        entry: The kernel's name.
        pointers: Where in its parameters there are 64-bit words that point into memory of the device; ``None`` if some
            point to other memory: then it may access anything.
        zeros: Where in its parameters there are 64-bit words that are 0.

    Raises:
        ToolchainMissing: If nvdisasm is missing, or does not know this kind of cubin.
    """
    version = str(require_disassembler().version)
    places = "unknown" if pointers is None else _numbers(pointers)
    kept = cache_at(cache_folder() / "toolchain")
    key = key_of("accesses", digest, entry, version, _analysis(), places, _numbers(zeros))
    stored = kept.get(key)
    if stored is not None:
        return _read(stored)
    facts = _facts(code, digest, entry)
    if facts is None:
        return None
    reach = Reach(unknown="a pointer of it does not point to memory of the device")
    if pointers is not None:
        reach = reach_of(facts, pointers, parameters_at(code), zeros, linked_of(code))
    waits_first = facts.always_waits and not facts.before_wait("load", "store", "bulk")
    found = ImageAccesses(bool(facts.of_kind("trigger")), waits_first, _may_poll(facts), reach)
    kept.put(key, _written(found))
    return found


@lru_cache(maxsize=16)
def _facts(code: bytes, digest: str, entry: str) -> EntryFacts | None:
    """The instructions of a kernel, about which one question often follows another."""
    return facts_of_image(code, entry, digest)


def _numbers(places: Iterable[int]) -> str:
    return " ".join(map(str, sorted(places)))


@cache
def _analysis() -> str:
    """What tells one version of the analysis from another."""
    return key_of(*(files("forerun").joinpath(name).read_bytes() for name in _SOURCES))


def _written(found: ImageAccesses) -> bytes:
    reads, writes = sorted(found.reach.reads), sorted(found.reach.writes)
    words = found.triggers, found.waits_first, found.may_poll, reads, writes, found.reach.unknown
    return json.dumps(words).encode()


def _read(stored: bytes) -> ImageAccesses:
    triggers, waits_first, may_poll, reads, writes, unknown = json.loads(stored)
    return ImageAccesses(triggers, waits_first, may_poll, Reach(frozenset(reads), frozenset(writes), unknown))


def _may_poll(facts: EntryFacts) -> bool:
    """Whether a loop of it reads global memory in a way in which one waits for others."""
    suspects = [
        index
        for index, one in enumerate(facts.instructions)
        if one.kind in ("load", "store") and (".STRONG" in one.opcode or one.opcode.startswith("ATOM"))
    ]
    if not suspects:
        return False
    looping = {node for loop in flow_graph(facts.instructions).loops for node in loop.nodes}
    return any(index in looping for index in suspects)
