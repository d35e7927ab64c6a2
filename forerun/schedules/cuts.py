"""Rules that cut tasks into items.

=================  =====================================================  ==========================  ==================
rule               where it cuts                                          items beyond the tasks       partial slots
=================  =====================================================  ==========================  ==================
:class:`Whole`     nowhere                                                0                            0
:class:`Shares`    where the share of a CTA ends (arXiv:2301.03598)       CTAs - 1                     2 (CTAs - 1)
:class:`Chunks`    equal parts of what costs more than a chunk            CTAs * n                     2 CTAs * n
:class:`Invariant` by the request alone                                   length / chunk               2 length / chunk
=================  =====================================================  ==========================  ==================

The bounds hold for every batch; :meth:`CutRule.room` returns them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forerun.schedules.capacity import Bounds
from forerun.schedules.tasks import Integers, Items, Tasks, borders_of, ragged
from forerun.support.diagnostics import InvalidInput

__all__ = ["Chunks", "CutRule", "Invariant", "Shares", "Whole", "equal_parts", "rule_of"]


class CutRule(Protocol):
    """A rule that cuts tasks."""

    @property
    def is_invariant(self) -> bool:
        """Whether the splits of an owner depend on that owner and the capacity alone."""
        ...

    def cut(self, tasks: Tasks, ctas: int) -> Items:
        """The pieces, each at least one block."""
        ...

    def room(self, bounds: Bounds, ctas: int) -> tuple[int, int]:
        """Items beyond one a task, and slots for partial results, that any batch needs at most."""
        ...


@dataclass(frozen=True)
class Whole:
    """No task is cut. The scan for the line of work is one exclusive prefix sum of the costs."""

    is_invariant = True

    def cut(self, tasks: Tasks, ctas: int) -> Items:
        """One item a task."""
        return equal_parts(tasks, np.ones(len(tasks), np.int64))

    def room(self, bounds: Bounds, ctas: int) -> tuple[int, int]:
        """Nothing."""
        return 0, 0


@dataclass(frozen=True)
class Shares:
    """Cuts where the share of a CTA ends on the line of all work, so that at most ``ctas - 1`` cuts balance it.

    On a device: one exclusive scan of the tasks' costs; one thread a border finds its task by binary search and the
    nearest block of it; one exclusive scan of the cuts of each task places the items. ``O(tasks + ctas log tasks)``.
    """

    is_invariant = False

    def cut(self, tasks: Tasks, ctas: int) -> Items:
        """The pieces between the tasks' ends and the borders of shares."""
        count = len(tasks)
        ends = np.cumsum(tasks.cost)
        total = int(ends[-1]) if count else 0
        first = tasks.on_first_line
        second = None if first is None else int(tasks.cost[:first].sum())
        borders = borders_of(ctas, total, second)[1:]
        task = np.searchsorted(ends, borders, side="right")
        task, borders = task[task < count], borders[task < count]
        inside = borders - (ends - tasks.cost)[task] - tasks.fixed[task]
        block = (inside + tasks.per_block[task] // 2) // tasks.per_block[task]
        cuts = (block > 0) & (block < tasks.blocks[task]) & tasks.can_split[task]
        stops = np.stack((task[cuts], block[cuts]))
        starts = np.stack((np.arange(count), np.zeros(count, np.int64)))
        starts = np.unique(np.concatenate((starts, stops), axis=1), axis=1)
        return _pieces(tasks, starts[0], starts[1], ends - tasks.cost)

    def room(self, bounds: Bounds, ctas: int) -> tuple[int, int]:
        """Each of ``ctas - 1`` borders adds an item; a task that is cut once has two slots."""
        return ctas - 1, 2 * (ctas - 1)


@dataclass(frozen=True)
class Chunks:
    """Cuts what costs more than a chunk into equal parts; a chunk is a CTA's mean share over ``per_cta``.

    An item then costs at most a chunk, a block and the fixed cost, so the busiest CTA exceeds the mean by about one
    part in ``per_cta`` at most, under :func:`~forerun.schedules.policies.longest_first` (Graham 1969) and under
    :func:`~forerun.schedules.policies.prefix_sums`.

    On a device: one reduction of the costs; each task divides; one exclusive scan of the splits places the items.
    ``O(tasks + items)``.

    Attributes:
        per_cta: Chunks of a mean share.
    """

    per_cta: int = 20
    is_invariant = False

    def __post_init__(self) -> None:
        _check_positive("chunks of a CTA", self.per_cta)

    def cut(self, tasks: Tasks, ctas: int) -> Items:
        """Equal parts, by the cost of the whole batch."""
        chunk = max(1, -(-int(tasks.cost.sum()) // (ctas * self.per_cta)))
        return equal_parts(tasks, -(-tasks.cost // chunk))

    def room(self, bounds: Bounds, ctas: int) -> tuple[int, int]:
        """``ceil(x) - 1 < x``, summed over tasks of ``x`` chunks; a task that is cut has at most twice its cuts."""
        return ctas * self.per_cta, 2 * ctas * self.per_cta


@dataclass(frozen=True)
class Invariant:
    """Cuts a request by that request alone, so that its result has the same bits in any batch.

    Each chain (a KV head of a request) may have one split for each ``chunk`` of its length, and its tiles share them: a
    decode of 16,384 positions has 8 splits of 2,048, a prefill with as many tiles as chunks has none. So the slots of
    a chain are at most its chunks, and those of a batch are bounded by its pages. Short chunks keep more CTAs at work
    for few long requests; each costs a partial result more. :func:`~forerun.schedules.policies.longest_first` balances
    them, without a change of bits.

    On a device: each task divides; one exclusive scan of the splits places the items. ``O(tasks + items)``.

    Attributes:
        chunk: Positions of the long axis.
    """

    chunk: int = 2048
    is_invariant = True

    def __post_init__(self) -> None:
        _check_positive("positions of a chunk", self.chunk)

    def cut(self, tasks: Tasks, ctas: int) -> Items:
        """Equal parts, by the length of each task and the number of its siblings."""
        return equal_parts(tasks, -(-tasks.length // self.chunk) // tasks.siblings)

    def room(self, bounds: Bounds, ctas: int) -> tuple[int, int]:
        """A chain of ``x`` chunks has ``ceil(x) - 1 < x`` items more, and slots for twice that or ``ceil(x)``."""
        most = bounds.length // self.chunk
        return most, min(2 * most, most + bounds.chains)


def rule_of(cuts: CutRule | None) -> CutRule:
    """The rule; ``Shares()`` if there is none.

    Raises:
        InvalidInput: If it is not a rule.
    """
    if cuts is None:
        return Shares()
    if isinstance(cuts, type) or not all(hasattr(cuts, name) for name in ("cut", "room", "is_invariant")):
        raise InvalidInput(f"{cuts!r} is not a rule of cuts", hint="Shares(), Chunks(...), Invariant(...) or Whole()")
    return cuts


def equal_parts(tasks: Tasks, splits: Integers) -> Items:
    """Each task in that many parts of equal blocks (one more or less); from 1 to as many as it has blocks."""
    splits = np.where(tasks.can_split, np.clip(splits, 1, tasks.blocks), 1)
    task, part = ragged(splits)
    return _pieces(tasks, task, part * tasks.blocks[task] // splits[task], None)


def _pieces(tasks: Tasks, task: Integers, begin: Integers, line: Integers | None) -> Items:
    """The pieces that begin there; on the line, where their tasks are (``line``), or one behind the other."""
    follows: NDArray[np.bool_] = np.append(task[1:] == task[:-1], False)[: len(task)]
    end: Integers = np.where(follows, np.append(begin[1:], 0)[: len(task)], tasks.blocks[task])
    cost: Integers = tasks.fixed[task] + tasks.per_block[task] * (end - begin)
    first = tasks.on_first_line
    if line is None:
        edges = np.append(0, np.cumsum(cost))
        return Items(task, begin, end, cost, edges, None if first is None else int(edges[np.searchsorted(task, first)]))
    # The fixed cost that a cut adds does not move what comes after it: borders of shares stay where they were.
    at = line[task] + np.where(begin > 0, tasks.fixed[task] + tasks.per_block[task] * begin, 0)
    second = None if first is None else int(tasks.cost[:first].sum())
    return Items(task, begin, end, cost, np.append(at, tasks.cost.sum()), second)


def _check_positive(what: str, value: object) -> None:
    if type(value) is not int or not 1 <= value < 2**31:
        raise InvalidInput(f"cuts: {what} cannot be {value!r}", hint="it is a positive integer below 2^31")
