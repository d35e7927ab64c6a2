"""What code generation makes: units to compile, or to load as they are, and what their entries take."""

from __future__ import annotations

from dataclasses import dataclass

from forerun.ir.nodes import Launch
from forerun.ir.types import DType
from forerun.runtime.toolchain import Source

__all__ = ["DELAY_SEED", "TIMELINE", "ForeignModule", "Slot", "Unit"]

DELAY_SEED = "__delay_seed"
"""The parameter of a unit's last slot if it has delays: the address of a 32-bit seed.

Nodes of one unit are told apart by that address: give each node one of its own.
"""

TIMELINE = "__timeline"
"""The parameter of a unit's last slot if it has a timeline: the address of the node's records; see timestamps.py."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of an entry.

    Attributes:
        parameter: The kernel's parameter that it belongs to.
        kind: ``pointer``: the address of a buffer; ``scalar``: a constant's value; ``address`` and ``offset``: of a
            scalar that is loaded, the address of its element, and what is added to it.
        dtype: Of the value; of the elements behind a pointer or address.
    """

    parameter: str
    kind: str
    dtype: DType

    @property
    def size(self) -> int:
        """Bytes of the parameter."""
        return 8 if self.kind in ("pointer", "address") else self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class ForeignModule:
    """A module in ``ptx`` or ``cubin`` that is loaded as it is, from where the kernel has it."""

    language: str
    location: str
    code: bytes


@dataclass(frozen=True, slots=True)
class Unit:
    """One specialisation of a kernel: a module with one entry. Nodes whose units are equal share it, and its launch."""

    entry: str
    source: Source | ForeignModule
    slots: tuple[Slot, ...]
    launch: Launch
