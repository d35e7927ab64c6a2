"""What a captured graph has room for: the sizes of its arrays, which no batch can change."""

from __future__ import annotations

from dataclasses import dataclass, fields

from forerun.support.diagnostics import InvalidInput

__all__ = ["ITEM_FIELDS", "Bounds", "Capacity"]

ITEM_FIELDS = 8
"""The int32 words of an item: 32 bytes, two loads of 16 bytes."""

_MOST, _MOST_CTAS = 2**31 - 1, 2**16 - 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the batches of a family within a capacity have at most.

    Attributes:
        tasks: Tasks of a batch.
        chains: Pairs of owner and lane of a batch, such as request and KV head.
        length: Extents of the long axis, one a chain, summed over the chains.
        lines: Work lists, for kinds of tasks that a CTA executes at the same time: 1 or 2.
    """

    tasks: int
    chains: int
    length: int
    lines: int = 1


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest batch, and the room for its schedule.

    Attributes:
        requests: Requests of a batch; experts, for experts.
        rows: Query rows of all requests.
        pages: Entries of all page lists together.
        ctas: Shares of the work: one for each work list and CTA of the persistent kernel.
        items: Work items of a schedule.
        partials: Slots for partial results.
        lines: Work lists, 1 or 2. With two, the first half of the shares belongs to the first list.

    Raises:
        InvalidInput: If a number is not an integer from 0 to 2^31 - 1 (CTAs: 65,535), ``requests``, ``rows``, ``ctas``
            or ``items`` is 0, ``lines`` is neither 1 nor 2, or ``ctas`` is not a multiple of it.
    """

    requests: int
    rows: int
    pages: int
    ctas: int
    items: int
    partials: int
    lines: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("pages", "partials") else 1
            most = {"ctas": _MOST_CTAS, "lines": 2}.get(field.name, _MOST)
            if type(value) is not int or not least <= value <= most:
                hint = f"it is an integer from {least} to {most}"
                raise InvalidInput(f"capacity: {field.name} cannot be {value!r}", hint=hint)
        if self.ctas % self.lines:
            message = f"capacity: {self.ctas} shares (ctas) cannot be divided equally between {self.lines} work lists"
            raise InvalidInput(message, hint=f"ctas has to be a multiple of lines, {self.lines}")

    @property
    def counters(self) -> int:
        """Room for counters: a task that is split has a counter, and two slots or more."""
        return self.partials // 2

    @property
    def schedule_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of a schedule's arrays on a device, by name; without counters there is room for one."""
        return {
            "status": (2,),
            "counts": (3,),
            "pointers": (self.ctas + 1,),
            "items": (self.items, ITEM_FIELDS),
            "counters": (max(1, self.counters), 2),
        }

    @property
    def schedule_bytes(self) -> int:
        """Bytes of the schedule: the status and the counts, the CTAs' pointers, items, and two words a counter."""
        return 4 * (5 + self.ctas + 1 + ITEM_FIELDS * self.items + 2 * self.counters)
