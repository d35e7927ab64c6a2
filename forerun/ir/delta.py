"""What an edit touched."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Delta"]


_PARTS = ("nodes", "dependencies", "buffers", "allocations", "kernels")


@dataclass(slots=True)
class Delta:
    """Names of what an edit touched, each in the order of the edit, each once.

    A node, dependency, buffer, allocation or kernel that was added, removed or replaced is listed; compare the graphs
    before and after to see how.
    """

    nodes: dict[str, None] = field(default_factory=dict)
    dependencies: dict[tuple[str, str], None] = field(default_factory=dict)
    buffers: dict[str, None] = field(default_factory=dict)
    allocations: dict[str, None] = field(default_factory=dict)
    kernels: dict[str, None] = field(default_factory=dict)

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
