"""A driver with words of memory, and generators and a graph like torch's, whose kernels draw random numbers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tests.captured.samples import BLOCKS, SIZE
from tests.runtime.cuda.capture.fake import FakeCuda

__all__ = ["OFFSET", "OUTPUT", "SEED", "FakeGenerator", "RandomCuda", "TorchGraph", "fake_torch"]

SEED, OFFSET, OUTPUT = BLOCKS["w0"], BLOCKS["w1"], BLOCKS["y"]


@dataclass
class State:
    seed: int = 0
    offset: int = 0


class FakeGenerator:
    """As ``torch.Generator``: a handle of a state that others may have, too."""

    def __init__(self, state: State) -> None:
        self.state = state

    def graphsafe_get_state(self) -> FakeGenerator:
        return FakeGenerator(self.state)

    def graphsafe_set_state(self, other: FakeGenerator) -> None:
        self.state = other.state

    def initial_seed(self) -> int:
        return self.state.seed

    def get_offset(self) -> int:
        return self.state.offset

    def manual_seed(self, seed: int) -> None:
        self.state.seed, self.state.offset = seed, 0

    def set_offset(self, offset: int) -> None:
        assert offset % 4 == 0
        self.state.offset = offset


class RandomCuda(FakeCuda):
    """A launch stores a number that is drawn with the seed and the offset, and what else tests say."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: dict[int, int] = {SEED: 11, OFFSET: 0, OUTPUT: 33}
        self.saved: dict[int, dict[int, int]] = {}
        self.after_launch: Callable[[], None] = lambda: None
        self.add_function(7, "scale", [8, 8, 8])
        self.add_kernel(1, 7, *(at.to_bytes(8, "little") for at in (SEED, OFFSET, OUTPUT)))

    def run(self) -> None:
        """What the captured kernel does."""
        self.memory[OUTPUT] = hash((self.memory[SEED], self.memory[OFFSET])) & (1 << 64) - 1
        self.after_launch()

    def cuGraphLaunch(self, executable: Any, stream: int) -> tuple[int]:  # noqa: N802
        self.calls.append(("cuGraphLaunch", executable, stream))
        self.run()
        return (0,)

    def cuMemcpyDtoH(self, to: int, address: int, size: int) -> tuple[int]:  # noqa: N802
        assert size == 8
        ctypes.c_uint64.from_address(to).value = self.memory.get(address, 0)
        return (0,)

    def cuMemsetD32Async(self, address: int, value: int, count: int, stream: int) -> tuple[int]:  # noqa: N802
        assert count == 1
        place, shift = address & ~7, 8 * (address & 7)
        self.memory[place] = self.memory.get(place, 0) & ~(0xFFFFFFFF << shift) | value << shift
        return (0,)

    def cuMemcpyDtoDAsync(self, to: int, source: int, size: int, stream: int) -> tuple[int]:  # noqa: N802
        if int(source) in BLOCKS.values():
            self.saved[int(to)] = {at: value for at, value in self.memory.items() if source <= at < source + SIZE}
        else:
            self.memory |= self.saved[int(source)]
        return (0,)


@dataclass
class TorchGraph:
    """As ``torch.cuda.CUDAGraph(keep_graph=True)``: its replay hands on seed and offset, and advances."""

    cuda: RandomCuda
    states: list[State]
    increment: int = 8
    raw: list[int] = field(default_factory=lambda: [3])
    number: int = 1

    def raw_cuda_graph(self) -> int:
        if not self.raw:
            raise RuntimeError("You cannot access the raw cudaGraph_t instance until capture_end() has been called")
        return self.raw[0]

    def pool(self) -> tuple[int, int]:
        return self.number, 0

    def reset(self) -> None:
        self.raw.clear()

    def replay(self) -> None:
        for state in self.states:
            self.cuda.memory[SEED], self.cuda.memory[OFFSET] = state.seed, state.offset
            state.offset += self.increment
        self.cuda.run()


def fake_torch(*generators: FakeGenerator) -> Any:
    """The parts of the module that have to do with random numbers."""
    stream = SimpleNamespace(cuda_stream=9)
    cuda = SimpleNamespace(
        default_generators=generators, current_stream=lambda: stream, is_initialized=lambda: True,
        memory_snapshot=list,
    )  # fmt: skip
    return SimpleNamespace(cuda=cuda, __file__=None)
