"""Tasks of a batch, items of tasks, and the protocol of a family of kernels.

A task makes one tile of the output. Its work lies along one long axis (the KV positions of a query tile, the columns of
a product), in blocks. A rule of :mod:`~forerun.schedules.cuts` cuts the axis between blocks; each piece is an item.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from forerun.schedules.capacity import Bounds, Capacity
from forerun.schedules.status import Finding
from forerun.support.diagnostics import InvalidInput

__all__ = ["Costs", "Family", "Integers", "Items", "Key", "Tasks", "borders_of", "extents", "ragged"]

Integers = NDArray[np.int64]

Key = tuple[int, int, int]
"""A task's owner, lane and tile: no two tasks of a batch have the same."""

_Batch = TypeVar("_Batch", contravariant=True)


@dataclass(frozen=True, slots=True)
class Costs:
    """What an item of one kind costs, in units of time that all kinds of a family share.

    Attributes:
        fixed: The cost of any item, however short: its queries, its result.
        per_block: The cost of a block of the long axis.

    Raises:
        InvalidInput: If ``fixed`` is negative, ``per_block`` is below 1, or one is not an integer of at most 2^16.
    """

    fixed: int
    per_block: int

    def __post_init__(self) -> None:
        for name, least in (("fixed", 0), ("per_block", 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= 2**16:
                raise InvalidInput(f"costs: {name} cannot be {value!r}", hint=f"it is an integer from {least} to 2^16")


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of a batch, one an entry of each array, in the order of owners, then lanes, then tiles.

    Attributes:
        owner: The request, or the expert.
        lane: What an owner has several of: the KV head, the group of rows.
        tile: The tile of the output within the lane.
        size: The rows of a tile, which say how it is computed.
        length: The extent of the long axis, 1 or more.
        block: Where the axis may be cut: at multiples of this.
        fixed: The fixed cost of an item of the task.
        per_block: The cost of a block.
        siblings: Among how many tasks a chain of its owner's shares its splits; it depends on the owner alone.
        can_split: Whether the task may be cut.
        line: The work list of each task, 0 or 1; ``None`` if there is only one list.
    """

    owner: Integers
    lane: Integers
    tile: Integers
    size: Integers
    length: Integers
    block: Integers
    fixed: Integers
    per_block: Integers
    siblings: Integers
    can_split: NDArray[np.bool_]
    line: Integers | None = None

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def blocks(self) -> Integers:
        """Blocks of each task; the last one may be shorter."""
        return -(-self.length // self.block)

    @property
    def cost(self) -> Integers:
        """The cost of each task in one item."""
        return self.fixed + self.per_block * self.blocks

    def require_valid(self) -> None:
        """Check what a family has made.

        Raises:
            InvalidInput: If an array has another length or type than it should have, or a value is out of range.
        """
        count = np.size(self.owner)
        for name, least in _LEAST.items():
            array = getattr(self, name)
            if array is None and name == "line":
                continue
            kind, what = (np.bool_, "booleans") if name == "can_split" else (np.integer, "integers")
            if not isinstance(array, np.ndarray) or array.shape != (count,) or not np.issubdtype(array.dtype, kind):
                raise InvalidInput(f"tasks: {name} must be a NumPy array of {what}", hint="one entry for each task")
            most = 1 if name == "line" else 2**31 - 1
            wrong = (array < least) | (array > most)
            if wrong.any():
                task = int(np.argmax(wrong))
                hint = f"from {least} to {most}"
                raise InvalidInput(f"tasks: {name} of task {task} cannot be {array[task]}", hint=hint)

    def keys(self) -> list[Key]:
        """Owner, lane and tile of each task."""
        return list(zip(self.owner.tolist(), self.lane.tolist(), self.tile.tolist(), strict=True))

    def of_owner(self, owner: int) -> Tasks:
        """The tasks of one owner, as a batch of it alone has them."""
        return self._chosen(self.owner == owner)

    def on_lines(self, lines: int) -> Tasks:
        """The tasks in the order of their work lists; with one list, in the order of owners.

        In the second list the last owner comes first, so that a device knows the places of owners before it has counted
        their tasks.
        """
        if lines == 1 or self.line is None:
            return replace(self, line=None)
        return self._chosen(np.argsort(np.where(self.line == 0, self.owner, 2**32 - self.owner), kind="stable"))

    @property
    def on_first_line(self) -> int | None:
        """The number of tasks in the first work list; ``None`` if there is only one list."""
        return None if self.line is None else int(np.count_nonzero(self.line == 0))

    def _chosen(self, which: Integers | NDArray[np.bool_]) -> Tasks:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: array[which] for name, array in arrays.items() if array is not None})


_LEAST = dict.fromkeys(("owner", "lane", "tile", "size"), 0)
_LEAST |= {"length": 1, "block": 1, "fixed": 0, "per_block": 1, "siblings": 1, "can_split": 0, "line": 0}
"""The least value in each array of tasks."""


@dataclass(frozen=True, slots=True)
class Items:
    """Pieces of tasks: of each task in the order of its axis, tasks in their order.

    Attributes:
        task: The index of the task.
        begin: The first block of the piece.
        end: The block behind its last one.
        cost: What the piece costs.
        edges: Where each piece begins on the line of all work, and at the end where the last one ends: one entry more
            than there are pieces. Prefix sums deal shares of this line.
        second: The place on that line where the second work list begins; ``None`` if there is only one.
    """

    task: Integers
    begin: Integers
    end: Integers
    cost: Integers
    edges: Integers
    second: int | None = None

    def __len__(self) -> int:
        return len(self.task)


def borders_of(ctas: int, total: int, second: int | None) -> Integers:
    """Where the shares begin on the line of all work ``[CTAs]``: equal ones, half of them for each of two work lists.

    Example:
        >>> borders_of(4, 100, None).tolist(), borders_of(4, 100, 60).tolist()
        ([0, 25, 50, 75], [0, 30, 60, 80])
    """
    if second is None:
        return np.arange(ctas, dtype=np.int64) * total // ctas
    half = ctas // 2
    return np.append(borders_of(half, second, None), second + borders_of(half, total - second, None))


def extents(pointers: NDArray[np.int32], count: int) -> Integers:
    """The extents between the first ``count + 1`` index pointers; what is behind them is not read."""
    wide = pointers[: count + 1].astype(np.int64)
    return wide[1:] - wide[:-1]


def ragged(counts: Integers) -> tuple[Integers, Integers]:
    """The owner of each entry of a ragged array, and the entry's index within its owner.

    On a device: one exclusive scan of the counts; each entry finds its owner by binary search.

    Example:
        >>> [array.tolist() for array in ragged(np.array([2, 0, 3]))]
        [[0, 0, 2, 2, 2], [0, 1, 0, 1, 2]]
    """
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


class Family(Protocol[_Batch]):
    """A family of kernels: what the scheduler has to know of it.

    The scheduler knows nothing of attention or products. Whoever has ragged work writes these three methods; see
    docs/schedules.md for a small one.
    """

    def check(self, batch: _Batch, capacity: Capacity) -> Finding:
        """What is wrong with a batch. Nothing behind its actual counts is read."""
        ...

    def tasks(self, batch: _Batch) -> Tasks:
        """The tasks of a batch that :meth:`check` found right."""
        ...

    def bounds(self, capacity: Capacity) -> Bounds:
        """What all batches within the capacity have at most."""
        ...
