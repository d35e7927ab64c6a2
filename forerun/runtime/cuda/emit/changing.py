"""The arguments of kernel nodes that are updated: of a node that changes again, only what differs is written."""

from __future__ import annotations

from collections.abc import Sequence

from forerun.ir.nodes import KernelNode, Node
from forerun.runtime.cuda.emit.arguments import Arguments, Words

__all__ = ["ChangingArguments"]


class ChangingArguments:
    """Words of their own for each node that was updated, which are kept for its next update.

    Nodes are told apart by launch position.
    """

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._held: dict[int, tuple[Node, int, Words]] = {}

    def address(self, position: int, node: KernelNode, unit: int, path: str) -> int:
        """Write all arguments of a node that launches a unit; returns the address of its array of pointers."""
        words = Words(*self._arguments.words(node, unit, path))
        self._held[position] = node, unit, words
        return words.address

    def address_after(self, position: int, old: Node, new: KernelNode, unit: int, numbers: Sequence[int]) -> int:
        """The same where only some numbers differ from what another node passes to the same unit.

        Args:
            position: The launch position.
            old: The other node.
            new: The node.
            unit: The number of the unit.
            numbers: Which of the arguments differ; they are constants in both.

        Returns:
            The address, or 0 if the words that are kept are not those of the other node.
        """
        held, converters = self._held.get(position), self._arguments.converters(unit)
        if held is None or held[0] is not old or held[1] != unit or converters is None:
            return 0
        words = held[2]
        del self._held[position]  # until all are written
        for i in numbers:
            words.put(i, converters[i](new.arguments[i][1].value))  # type: ignore[misc,union-attr]
        self._held[position] = new, unit, words
        return words.address
