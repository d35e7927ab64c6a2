"""A property that does not hold, told so that it can be understood and seen again."""

from __future__ import annotations

from collections.abc import Callable

from forerun.ir.graph import Graph
from forerun.ir.text import diff_graphs, print_graph
from forerun.support.escaping import visible

__all__ = ["Counterexample"]

_SHOWN_LINES = 120


class Counterexample(AssertionError):
    """A graph for which a property does not hold.

    Attributes:
        property: Its name, such as ``refines``.
        finding: What is wrong, in one line.
        details: More lines: the places in the graph's text, the witness, repairs, values.
        before: The graph.
        after: What was made of it; ``None`` if there is nothing.
        replay: How to see it again.
    """

    def __init__(
        self,
        property: str,
        finding: str,
        before: Graph,
        after: Graph | None = None,
        *,
        details: str | Callable[[], str] = "",
        replay: str = "",
    ) -> None:
        super().__init__(property, finding)
        self.property = property
        self.finding = finding
        self._details = details
        self.before = before
        self.after = after
        self.replay = replay

    @property
    def details(self) -> str:
        """Made when it is asked for: a search makes many counterexamples, and shows one."""
        if not isinstance(self._details, str):
            self._details = self._details()
        return self._details

    def __str__(self) -> str:
        sections = [f"{self.property}: {visible(self.finding)}"]
        for title, body in (
            ("what is wrong", self.details),
            ("the graph", print_graph(self.before)),
            ("what was made of it", self._changes()),
            ("see it again", self.replay),
        ):
            if body:
                sections.append(f"{title}:\n{_indented(body)}")
        return "\n\n".join(sections)

    def _changes(self) -> str:
        if self.after is None or self.after is self.before:
            return ""
        return diff_graphs(self.before, self.after) or "an equal graph"


def _indented(text: str) -> str:
    lines = text.rstrip("\n").splitlines()
    more = len(lines) - _SHOWN_LINES
    shown = [*lines[:_SHOWN_LINES], f"... {more} more lines"] if more > 0 else lines
    return "\n".join(f"  {line}" if line else "" for line in shown)
