"""The arguments of kernel nodes that are updated: of a node that changes again, only what differs is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from forerun.ir.nodes import KernelNode
from forerun.runtime.cuda.emit.arguments import Arguments, Words

__all__ = ["ChangingArguments"]


@dataclass(slots=True)
class _Held:
    """What stands in the words of one position.

    Attributes:
        node: The node whose arguments they are; ``None`` while they are written.
        unit: The number of the unit that takes them.
        words: One for each argument.
        converters: What makes words of numbers, by argument.
    """

    node: KernelNode | None
    unit: int
    words: Words
    converters: Sequence[Callable[[Any], int] | None]


class ChangingArguments:
    """Words of their own for each node that was updated, which are kept for its next update.

    Nodes are told apart by launch position.
    """

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._held: dict[int, _Held] = {}

    def address(self, position: int, node: KernelNode, unit: int, path: str) -> int:
        """Write all arguments of a node that launches a unit; returns the address of its array of pointers."""
        found, held = self._arguments.words(node, unit, path), self._held.pop(position, None)
        if held is not None and len(held.words) == len(found):
            words = held.words
            words.put_all(found)
        else:
            words = Words(*found)
        self._held[position] = _Held(node, unit, words, self._arguments.converters(unit))
        return words.address

    def address_after(self, position: int, old: object, new: KernelNode, unit: int, numbers: Sequence[int]) -> int:
        """Write only the numbers in which a node differs from the one before it, which launched the same unit.

        Args:
            position: The launch position.
            old: The other node.
            new: The node.
            unit: The number of the unit.
            numbers: Which of the arguments differ; they are constants in both.

        Returns:
            The address, or 0 if the words that are kept are not those of the other node.
        """
        held = self._held.get(position)
        if held is None or held.node is not old or held.unit != unit or not held.converters:
            return 0
        held.node = None
        for i in numbers:
            held.words.put(i, held.converters[i](new.arguments[i][1].value))  # type: ignore[misc,union-attr]
        held.node = new
        return held.words.address
