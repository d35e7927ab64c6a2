"""Measured times of nodes, from timelines of steps that ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from forerun.ir.graph import Graph
from forerun.support.diagnostics import InvalidInput
from forerun.support.json_reader import JsonObject, read_json

__all__ = ["measured_times"]

FORMAT = "forerun timeline 1"

_HINT = "write json.dumps(executable.timeline().to_json()) to it, or take timeline.json of forerun bench --dump"


def measured_times(graph: Graph, files: str) -> Mapping[tuple[str, str], float]:
    """Seconds of nodes by their names and the kind of place where they ran.

    Args:
        graph: The graph whose nodes are meant.
        files: Paths of timelines (docs/seeing-a-step.md), separated by commas; of a node that is in several, the last
            one counts.

    Raises:
        InvalidInput: If a file cannot be read, or has no node of the graph.
    """
    found: dict[tuple[str, str], float] = {}
    for path in filter(None, (part.strip() for part in files.split(","))):
        times = {key: seconds for key, seconds in _times_in(Path(path)) if key[0] in graph.nodes}
        if not times:
            raise InvalidInput(f"pass 'place': the timeline {path} has no node of graph '{graph.name}'", hint=_HINT)
        found.update(times)
    return found


def _times_in(path: Path) -> Iterator[tuple[tuple[str, str], float]]:
    file = read_json(path, what="the timeline", hint=_HINT)
    file.require("format", FORMAT, "a timeline that can be read")
    for node in file.each("nodes"):
        starts, waits, ends = (_taken(node, key) for key in ("start", "wait", "end"))
        if starts and ends:
            yield (node.text("name"), "device"), max(0, max(ends) - min(waits or starts)) / 1e9
    for span in file.each("spans", optional=True):
        if span.text("kind") == "host":
            yield (span.text("name"), "host"), max(0, span.integer("ends") - span.integer("begins")) / 1e9


def _taken(node: JsonObject, key: str) -> list[int]:
    """The times of the CTAs that took the step; ``null`` if none did."""
    return [time for time in node.list_of(key, int, optional=True) if time >= 0]
