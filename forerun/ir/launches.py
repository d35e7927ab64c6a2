"""Which launches a kernel accepts: grids, blocks, shared memory and clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forerun.ir.nodes import Launch

__all__ = ["ANY_LAUNCH", "WHOLE_WARPS", "Launches", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """The numbers ``start``, ``start + step``, ... up to ``stop``, which may be one of them.

    Example:
        >>> 64 in Span(32, 1024, 32), 65 in Span(32, 1024, 32)
        (True, False)
    """

    start: int
    stop: int
    step: int = 1

    def __contains__(self, number: int) -> bool:
        return self.start <= number <= self.stop and self.step > 0 and (number - self.start) % self.step == 0

    def __str__(self) -> str:
        if self.start == self.stop:
            return str(self.start)
        return f"{self.start}..{self.stop}" + ("" if self.step == 1 else f" step {self.step}")


@dataclass(frozen=True, slots=True)
class Launches:
    """The launches with which a kernel does what it declares. What is ``None`` may be anything.

    It is a promise of the kernel's author, as the phases are, and is tested by values: results of a right kernel are
    those of its functions in all of these launches, or the compiler refuses the launch (a ``static_assert``, say, where
    it depends on shapes).

    Attributes:
        grid: CTAs of the grid, in all dimensions together.
        block: Threads of a CTA.
        shared: Bytes of dynamic shared memory a CTA.
        cluster: CTAs of a cluster, side by side in x; 1 is a launch without clusters.
    """

    grid: Span | None = None
    block: Span | None = None
    shared: Span | None = None
    cluster: Span | None = None

    def spans(self) -> Iterator[tuple[str, Span]]:
        """What is bounded, with the bounds."""
        named = ("grid", self.grid), ("block", self.block), ("shared", self.shared), ("cluster", self.cluster)
        return ((name, span) for name, span in named if span is not None)

    def refusal(self, launch: Launch) -> str:
        """Why a launch is none of these; empty if it is one.

        Example:
            >>> from forerun.ir.nodes import Launch
            >>> WHOLE_WARPS.refusal(Launch(block=(48, 1, 1)))
            '48 threads a CTA, accepted are 32..1024 step 32'
            >>> WHOLE_WARPS.refusal(Launch(block=(64, 1, 1)))
            ''
        """
        given = {
            "grid": (math.prod(launch.grid), "CTAs"),
            "block": (math.prod(launch.block), "threads a CTA"),
            "shared": (launch.shared_bytes, "bytes of shared memory a CTA"),
            "cluster": (math.prod(launch.cluster or (1,)), "CTAs a cluster"),
        }
        for name, span in self.spans():
            number, what = given[name]
            if number not in span:
                return f"{number} {what}, accepted are {span}"
        if self.cluster is not None and math.prod((launch.cluster or (1, 1, 1))[1:]) != 1:
            return f"a cluster of {launch.cluster} CTAs, accepted are clusters in x"
        return ""


ANY_LAUNCH = Launches()
"""Whatever the hardware can launch."""

WHOLE_WARPS = Launches(block=Span(32, 1024, 32), cluster=Span(1, 1))
"""Blocks of whole warps, as reductions need them, and no clusters."""
