"""Random numbers of torch's graphs: a clone hands on seeds and offsets as torch's own replay does.

``CUDAGraph.replay`` stores each generator's seed and offset in two words of device memory, from which the captured
kernels read them, and advances the offset by what one replay draws (``replay_prologue``, CUDAGeneratorImpl.cpp). Torch
tells neither where the words are nor how far the offset goes. Both are observed: torch replays the graph twice with
seeds and offsets that occur nowhere else, in memory that is put back.
"""

from __future__ import annotations

import ctypes
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forerun.captured.graph import CapturedGraph, MemoryRange
from forerun.runtime.cuda.capture.memory import torch_segments
from forerun.runtime.cuda.capture.saved_memory import SavedMemory
from forerun.runtime.cuda.capture.session import LiveCapture
from forerun.runtime.cuda.driver.driver import Driver
from forerun.support.diagnostics import Unsupported

__all__ = ["GeneratorAdvance", "may_draw", "random_numbers", "state_words"]

_WORD = 8
_MOST_BYTES = 64
"""A tensor of a seed or an offset has 8 bytes; larger ones are data."""

_SEED_BITS, _OFFSET_BITS = 62, 40
_ATTEMPTS = 3
"""How often a clone is compared: results of atomics are not the same each time."""

Words = Mapping[int, int]
"""What lies at some addresses, as unsigned integers of 64 bits."""


@dataclass(frozen=True)
class GeneratorAdvance:
    """What a replay does with one of torch's generators.

    Attributes:
        generator: It has the state that the graph was captured with, whatever the default generator's becomes.
        increment: How far a replay advances the offset.
        seeds: Where kernels read the seed.
        offsets: Where kernels read the offset.
    """

    generator: Any
    increment: int
    seeds: tuple[int, ...]
    offsets: tuple[int, ...]

    def prepare(self, driver: Driver, stream: int) -> None:
        """Store seed and offset for the next replay on a stream, and advance the offset."""
        offset = self.generator.get_offset()
        for places, value in ((self.seeds, self.generator.initial_seed()), (self.offsets, offset)):
            for address in places:
                for half in range(2):
                    driver.call("cuMemsetD32Async", address + 4 * half, value >> 32 * half & 0xFFFFFFFF, 1, stream)
        self.generator.set_offset(offset + self.increment)


def may_draw(live: LiveCapture) -> bool:
    """Whether the graph is torch's, and a kernel of it may read the state of a generator."""
    # What stands for the graph of a restored capture has no replay.
    is_torch = "torch" in sys.modules and all(hasattr(live.source, one) for one in ("raw_cuda_graph", "replay"))
    return is_torch and (bool(state_words(live.graph)) or _has_unread(live.graph))


def state_words(graph: CapturedGraph) -> tuple[int, ...]:
    """Where the state of generators may lie: in small tensors of torch's that parameters point to.

    What torch's allocator does not know may be such a tensor, too.
    """
    segments = torch_segments()
    small = [
        MemoryRange(int(block["address"]), int(block["size"]))
        for segment in segments
        for block in segment["blocks"]
        if block["state"] == "active_allocated" and block.get("requested_size", 0) <= _MOST_BYTES
    ]
    theirs = [MemoryRange(int(one["address"]), int(one["total_size"])) for one in segments]
    return tuple(at for at in _pointed_words(graph) if _around(at, small) or not _around(at, theirs))


def _pointed_words(graph: CapturedGraph) -> tuple[int, ...]:
    """Where parameters point to, as far as a word lies there."""
    known = [memory for memory in graph.memory if memory.kind in ("device", "free")]
    return tuple(
        value
        for value in dict.fromkeys(_pointers(graph))
        if value % _WORD == 0 and any(value in one and value + _WORD <= one.stop for one in known)
    )


def _around(address: int, ranges: Sequence[MemoryRange]) -> bool:
    return any(address in one for one in ranges)


def _pointers(graph: CapturedGraph) -> Iterator[int]:
    for node in graph.nodes:
        if node.body is not None:
            yield from _pointers(node.body)
        yield from (value for _, _, value in node.pointers())


def _has_unread(graph: CapturedGraph) -> bool:
    """Whether parameters of a kernel are not known."""
    return any(
        _has_unread(node.body) if node.body is not None else node.kind == "kernel" and not node.parameters
        for node in graph.nodes
    )


def random_numbers(
    live: LiveCapture, memory: SavedMemory, plain: Any, torch: Any = None
) -> tuple[GeneratorAdvance, ...]:
    """What a replay of torch's graph does with generators; nothing if it draws no random numbers.

    Args:
        live: The captured graph.
        memory: Holds what replays write, for putting it back.
        plain: The executable of a clone that nothing was changed in.
        torch: The module; by default the one that is loaded.

    Raises:
        Unsupported: If replays draw numbers in a way that a clone cannot repeat.
        CudaError: If the driver fails.
    """
    torch = torch or sys.modules["torch"]
    generators = [one.graphsafe_get_state() for one in torch.cuda.default_generators]
    before = [(one.initial_seed(), one.get_offset()) for one in generators]
    try:
        return _Observer(live, memory, plain, generators).advances()
    finally:
        _set(generators, before)


class _Observer:
    def __init__(self, live: LiveCapture, memory: SavedMemory, plain: Any, generators: Sequence[Any]) -> None:
        self.live = live
        self.memory = memory
        self.plain = plain
        self.generators = generators
        self.places = state_words(live.graph)
        self.watched = _pointed_words(live.graph)

    def advances(self) -> tuple[GeneratorAdvance, ...]:
        states, others = (_unheard_of(len(self.generators)) for _ in range(2))
        first, increments = self._replayed(states)
        second, again = self._replayed(states)
        differing = {at for at in self.places if first[at] != second[at]}
        unsteady = self._unsteady() if differing else set()
        if again != increments or differing - unsteady:
            raise _refused("two replays with the same state of its default generators differ", "another generator")
        if not any(increments):
            return ()
        third, _ = self._replayed(others)
        found = []
        for number, increment in enumerate(increments):
            if increment:
                both = zip(states[number], others[number], strict=True)
                seeds, offsets = (
                    tuple(at for at in self.places if (first[at], third[at]) == values) for values in both
                )
                if not seeds or not offsets:
                    raise _refused("no parameter points to the seed and the offset that replays draw with")
                found.append(GeneratorAdvance(self.generators[number], increment, seeds, offsets))
        drawn = {at: value for at, value in first.items() if value == second[at] and value != third[at]}
        if not any(self._draws_the_same(states, found, drawn) for _ in range(_ATTEMPTS)):
            raise _refused("a clone with the same seeds and offsets stores something else")
        return tuple(found)

    def _draws_the_same(
        self, states: Sequence[tuple[int, int]], found: Sequence[GeneratorAdvance], expected: Words
    ) -> bool:
        """Whether a clone that is given seeds and offsets stores what torch's own replay stored."""
        _set(self.generators, states)
        driver = self.live.driver

        def launch() -> None:
            for one in found:
                one.prepare(driver, self.memory.stream)
            driver.call("cuGraphLaunch", self.plain, self.memory.stream)

        own = self._after(launch)
        return all(own[at] == value for at, value in expected.items())

    def _replayed(self, states: Sequence[tuple[int, int]]) -> tuple[Words, list[int]]:
        """What lies where parameters point to after torch's own replay, and how far each offset went."""
        _set(self.generators, states)
        words = self._after(self.live.source.replay)
        return words, [one.get_offset() - offset for one, (_, offset) in zip(self.generators, states, strict=True)]

    def _unsteady(self) -> set[int]:
        """The places where replays store something else each time although nothing random is drawn."""

        def launch() -> None:
            self.live.driver.call("cuGraphLaunch", self.plain, self.memory.stream)

        first, second = (self._after(launch) for _ in range(2))
        return {at for at in self.places if first[at] != second[at]}

    def _after(self, work: Callable[[], object]) -> Words:
        """What lies where parameters point to after some work, which begins with memory as it was, and ends so."""
        driver = self.live.driver
        work()
        driver.call("cuCtxSynchronize")
        words = {at: _word(driver, at) for at in self.watched}
        self.memory.restore()
        driver.call("cuStreamSynchronize", self.memory.stream)
        return words


def _unheard_of(count: int) -> list[tuple[int, int]]:
    """Seeds and offsets that nothing else has; offsets are multiples of 4."""
    return [(secrets.randbits(_SEED_BITS), secrets.randbits(_OFFSET_BITS) * 4) for _ in range(count)]


def _set(generators: Sequence[Any], states: Sequence[tuple[int, int]]) -> None:
    for generator, (seed, offset) in zip(generators, states, strict=True):
        generator.manual_seed(seed)
        generator.set_offset(offset)


def _word(driver: Driver, address: int) -> int:
    word = ctypes.c_uint64()
    driver.call("cuMemcpyDtoH", ctypes.addressof(word), address, _WORD)
    return word.value


def _refused(reason: str, what: str = "") -> Unsupported:
    message = "the graph draws random numbers, and a clone could not draw the same: " + reason
    hint = "draw them before the graph, and pass them to it as a tensor"
    return Unsupported(message + (f", so it may draw from {what}" if what else ""), hint=hint)
