"""Which SMs read faster than the others while all of them read: measured once, for kernels that deal their work by it.

On an H100 with 132 SMs, 24 or so read a third more than the others: they share their way to memory with three SMs
instead of five, since not every TPC of the die is there. Which ones differs from die to die, so it is measured: every
SM reads as many bytes, and notes how long that took. Equal shares let the others end late (benchmarks/NOTES.md).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from forerun.ir.builder import GraphBuilder
from forerun.ir.graph import Graph
from forerun.ir.kernel import Access, BufferParameter, Implementation, Kernel, Phase, Role
from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.runtime.cuda.errors import CudaError

if TYPE_CHECKING:
    from forerun.runtime.cuda.program import CudaProgram

__all__ = ["LEAST_BYTES", "Balance", "Balancer", "balance_of", "launch_members", "measured_balance", "reading_graph"]

LEAST_BYTES = 192 * 1024
"""Of a CTA's share: less than that is on its way before the wait, and ends when the last copy arrives."""

_WORDS = 1 << 19  # of four bytes, an SM: together they fit in no cache
_WARM_UP, _REPLAYS = 2, 5
_FASTER = 0.9  # of the median time
_MOST_PERCENT = 140  # kernels/row_stream.py has room for that
_SHARED, _THREADS = 160 * 1024, 1024  # two such CTAs do not fit on an SM
_MOST_SMS = 192

_DIGEST = Phase("digest", reads=(Access("x"),), writes=(Access("y"),), reference="forerun.kernels.read_all:digest")
_READ = Kernel(
    "read_share",
    (BufferParameter("x", DType.I32, ("rows", "words")), BufferParameter("y", DType.I32, ("rows",))),
    (Role("all", (_DIGEST,)),),
    (Implementation("cuda", "forerun.kernels.cuda:read_all.cu", "read_all"),),
)


Balancer: TypeAlias = "Callable[[int], Balance | None]"
"""Called with how many CTAs a launch has: the balance of the GPU, if that is one an SM."""


@dataclass(frozen=True, slots=True)
class Balance:
    """How fast the SMs of a GPU read.

    Attributes:
        sms: How many there are.
        fast: The numbers of those that are faster.
        percent: What they read while the others read 100.
    """

    sms: int
    fast: tuple[int, ...]
    percent: int

    def mask(self, word: int) -> int:
        """Bits for the fast ones among SMs ``64 * word`` to ``64 * word + 63``.

        Example:
            >>> hex(Balance(132, (1, 4, 64), 130).mask(0)), Balance(132, (1, 4, 64), 130).mask(1)
            ('0x12', 1)
        """
        return sum(1 << sm % 64 for sm in self.fast if sm // 64 == word)


def launch_members(balance: Balance | None) -> list[str]:
    """What ``kernels/cuda/balance.cuh`` finds in ``Launch``; without a balance nobody is fast."""
    balance = balance or Balance(0, (), 100)
    masks = ", ".join(f"fast_sms_{word} = {balance.mask(word):#x}" for word in range(3))
    return [
        f"static constexpr int fast_ctas = {len(balance.fast)}, fast_percent = {balance.percent};",
        f"static constexpr unsigned long long {masks};",
    ]


def reading_graph(sms: int) -> Graph:
    """One CTA an SM; each reads 2 MB."""
    builder = GraphBuilder("speeds")
    x, y = builder.state("x", DType.I32, (sms, _WORDS)), builder.output("y", DType.I32, (sms,))
    builder.launch(_READ, x=x, y=y, launch=Launch((sms, 1, 1), (_THREADS, 1, 1), _SHARED))
    return builder.build()


def balance_of(times: list[dict[int, int]], sms: int) -> Balance | None:
    """What follows from how long each SM took to read its share; ``None`` if nobody is reliably faster.

    Args:
        times: Nanoseconds by SM, for each of some replays.
        sms: How many SMs there are.

    Example:
        >>> balance_of([{0: 104, 1: 80, 2: 104}, {0: 104, 1: 80, 2: 104}], 3)
        Balance(sms=3, fast=(1,), percent=130)
    """
    whole = [replay for replay in times if len(replay) == sms and min(replay.values()) > 0]
    if not whole or sms > _MOST_SMS:
        return None
    limits = [_FASTER * statistics.median(replay.values()) for replay in whole]
    fast = {sm for sm in whole[0] if all(replay[sm] < limit for replay, limit in zip(whole, limits, strict=True))}
    if not fast or 2 * len(fast) > sms:
        return None
    ratios = [
        statistics.mean(time for sm, time in replay.items() if sm not in fast)
        / statistics.mean(replay[sm] for sm in fast)
        for replay in whole
    ]
    return Balance(sms, tuple(sorted(fast)), min(_MOST_PERCENT, round(100 * statistics.median(ratios))))


def measured_balance(load: Callable[[Graph], CudaProgram], sms: int) -> Balance | None:
    """Measure it.

    Args:
        load: Loads a graph whose kernels note their times.
        sms: How many SMs the GPU has.

    Returns:
        ``None`` if all are as fast, or it cannot be told: there is no memory for it, say.
    """
    try:
        program = load(reading_graph(sms))
    except CudaError as error:
        if not error.is_out_of_memory:
            raise
        return None
    times: list[dict[int, int]] = []
    try:
        for _ in range(_WARM_UP + _REPLAYS):
            program.run({})
            (node,) = program.timeline().nodes
            took = np.asarray(node.end) - np.asarray(node.start)
            times.append({int(sm): int(time) for sm, time in zip(node.sm, took, strict=True)})
    finally:
        program.close()
    return balance_of(times[_WARM_UP:], sms)
