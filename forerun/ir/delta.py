"""What an edit touched."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forerun.ir.graph import Graph

__all__ = ["Delta"]


_PARTS = ("nodes", "dependencies", "buffers", "allocations", "kernels")


@dataclass(slots=True)
class Delta:
    """Names of what an edit touched, each in the order of the edit, each once.

    A node, dependency, buffer, allocation or kernel that was added, removed or replaced is listed; compare the graphs
    before and after to see how.

    Attributes:
        reorders: Whether nodes were added or removed, so that launch positions may be others.
        base: The graph that the edit began from, as long as it lives; set by ``commit()``.
    """

    nodes: dict[str, None] = field(default_factory=dict)
    dependencies: dict[tuple[str, str], None] = field(default_factory=dict)
    buffers: dict[str, None] = field(default_factory=dict)
    allocations: dict[str, None] = field(default_factory=dict)
    kernels: dict[str, None] = field(default_factory=dict)
    reorders: bool = False
    base: weakref.ref[Graph] | None = field(default=None, compare=False, repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was touched."""
        return not self.parts

    @property
    def parts(self) -> frozenset[str]:
        """The names of the fields that are not empty."""
        return frozenset(name for name in _PARTS if getattr(self, name))

    def include(self, other: Delta) -> None:
        """Add what another edit touched."""
        for name in _PARTS:
            getattr(self, name).update(getattr(other, name))
        self.reorders = self.reorders or other.reorders
